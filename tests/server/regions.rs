//! Regions: one directory names them, an account lives in one of them and stays, and no bucket is of two.
use backupengine_server::app::App;
use backupengine_server::config::Config;
use backupengine_tests::account::{Device, DeviceKeys, base64, idem};
use backupengine_tests::regions::{NAMES, Region, three};
use backupengine_transfer::fetch_directory;
use serde_json::json;

fn enrolment(keys: &DeviceKeys, region: &str) -> serde_json::Value {
    json!({"sign_public": base64(&keys.sign_public()), "seal_public": base64(&keys.seal_public()),
           "device": keys.device().to_string(), "region": region, "idem": idem()})
}

/// Accounts and buckets that a deployment's database knows.
fn kept(region: &Region) -> (i64, Vec<(String, String)>) {
    let admin = region.server.admin();
    let users = admin.row("select count(*) from auth.users", &[]).get(0);
    let homes = "select t.region, v.bucket from app.tenant t left join app.vault v on v.tenant = t.id";
    let homes = admin.query(homes, &[]).unwrap();
    (users, homes.iter().map(|row| (row.get(0), row.get(1))).collect())
}

#[test]
fn an_account_lives_in_the_region_it_chose_and_stays() {
    let regions = three();
    let [us, ca, eu] = &regions;
    for asked in &regions {
        let directory = fetch_directory(asked.server.base()).unwrap();
        for named in &regions {
            assert_eq!(directory.regions[named.name], named.server.base(), "as {} says it", asked.name);
        }
        assert_eq!(directory.regions.len(), NAMES.len());
    }
    let user = ca.server.user("a@example.org");
    let stranger = user.stranger(1);
    for other in [us.name, eu.name, "mars", ""] {
        let refused = stranger.call("device-enroll", &enrolment(&stranger.keys, other));
        assert_eq!(refused.refusal("device-enroll"), "region_mismatch", "{other}");
        assert!(refused.body["message"].as_str().unwrap().contains("region ca"), "{}", refused.body);
    }
    let enrolled = stranger.ok("device-enroll", &enrolment(&stranger.keys, "ca"));
    assert_eq!(enrolled["region"], "ca");
    stranger.make_vault();
    assert_eq!(kept(ca), (1, vec![("ca".to_owned(), "backupengine-ca".to_owned())]));
    for other in [us, eu] {
        assert_eq!(kept(other), (0, Vec::new()), "nothing of it is in {}", other.name);
        // Its login is none of theirs.
        let there = Device::new(&other.server, stranger.session.clone(), stranger.keys.clone());
        assert_eq!(there.refused("vault-list", &json!({})), "bad_token");
        let login = json!({"email": "a@example.org", "password": backupengine_tests::account::PASSWORD});
        let (status, said) =
            other.server.http("POST", "/auth/v1/token?grant_type=password", None, Some(&login));
        assert_eq!((status, &said["code"]), (400, &json!("invalid_credentials")));
        // A second device is not let in by another region's name either.
        let second = user.stranger(2);
        assert_eq!(second.refused("device-enroll", &enrolment(&second.keys, other.name)), "region_mismatch");
    }
}

/// Not even whoever may write to the tables: the database itself says no.
#[test]
fn a_bucket_of_another_region_than_its_tenants_is_refused() {
    let [_, ca, eu] = &three();
    let device = ca.server.user("a@example.org").device(1);
    device.ok("usage", &json!({}));
    let vault = device.make_vault();
    let admin = ca.server.admin();
    let refused = |what: &str, statement: &str| {
        let error = admin.batch(statement).expect_err(what);
        let error = error.as_db_error().unwrap();
        assert_eq!((error.code().code(), error.message()), ("PT409", "region_mismatch"), "{what}");
    };
    refused("an account that moves", "update app.tenant set region = 'eu' where true");
    refused("a vault that moves", "update app.vault set bucket = 'backupengine-eu' where true");
    refused(
        "a vault made elsewhere",
        "insert into app.vault (id, tenant, bucket, root_public) \
         select substr(sha256('x'), 1, 16), id, 'backupengine-eu', sha256('r') from app.tenant",
    );
    refused("an account of elsewhere", "insert into app.tenant (region) values ('eu')");
    refused("a deployment that moves", "select app.configure('eu', 'backupengine-eu', null)");
    // Nor does a server start that was told to store there.
    let start = |change: &dyn Fn(&mut Config)| {
        let mut config = ca.server.dev().config().clone();
        change(&mut config);
        ca.server.wait(App::new(config)).map(drop).unwrap_err().to_string()
    };
    let theirs = eu.server.dev().storage.clone();
    let said = start(&|config| config.storage = theirs.clone());
    assert!(said.starts_with("BACKUPENGINE_S3_BUCKET: ") && said.contains("backupengine-ca"), "{said}");
    let said = start(&|config| "eu".clone_into(&mut config.region));
    assert!(said.starts_with("BACKUPENGINE_REGION: ") && said.contains("two deployments"), "{said}");
    assert_eq!(device.ok("vault-list", &json!({}))["vaults"][0]["vault"], json!(vault));
}
