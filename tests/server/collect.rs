//! Counters are compared under the lock: what another device changes in the very moment is heard of.
use backupengine_tests::account::{Device, Server, idem};
use serde_json::{Value, json};
use std::time::Duration;

/// Calls while another device's step is under way that moves `column` of the vault, and gives the code of the refusal.
fn meanwhile(server: &Server, device: &Device<'_>, column: &str, op: &str, body: &Value) -> String {
    let (step, look) = (server.admin(), server.admin());
    step.batch(&format!("begin; update app.vault set {column} = {column} + 1")).unwrap();
    let waiting = "select count(*) from pg_stat_activity where usename = 'backupengine_front' and wait_event_type = 'Lock'";
    std::thread::scope(|scope| {
        let call = scope.spawn(|| device.refused(op, body));
        while look.row(waiting, &[]).get::<_, i64>(0) == 0 {
            assert!(!call.is_finished(), "{op} waits for nobody: {:?}", call.join());
            std::thread::sleep(Duration::from_millis(5));
        }
        step.batch("commit").unwrap();
        call.join().unwrap()
    })
}

#[test]
fn counters_that_move_in_the_very_moment_refuse() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    let steps: [(&str, Value); 2] = [("gc-retire", json!({"packs": []})), ("gc-move", json!({"moves": []}))];
    for (op, mut body) in steps {
        for column in ["snap_version", "gc_epoch"] {
            let at = device.ok("version", &json!({"vault": vault}));
            body["vault"] = vault.clone().into();
            body["version"] = at["version"].clone();
            body["gc_epoch"] = at["gc_epoch"].clone();
            body["idem"] = idem().into();
            assert_eq!(meanwhile(&server, &device, column, op, &body), "counters_moved", "{op}, {column}");
        }
    }
}
