//! Which deployment an account is made at: the one of its region, whichever was asked.
use crate::account_world::with_new_factor;
use crate::program::Person;
use backupengine_tests::account::PASSWORD;
use backupengine_tests::regions::three;

#[test]
fn signup_goes_to_the_region_and_stays_there() {
    let regions = three();
    let [us, ca, eu] = &regions;
    let users = |server: &backupengine_tests::account::Server| -> i64 {
        server.admin().row("select count(*) from auth.users", &[]).get(0)
    };
    // Asked of one, made at another.
    let person = Person::new();
    let args =
        ["signup", "--server", us.server.base(), "--region", "ca", "--email", "a@example.org", "--json"];
    let (ran, _) = with_new_factor(&ca.server, &person, &args);
    let said = ran.expect(0).json();
    assert_eq!((said["region"].as_str(), said["server"].as_str()), (Some("ca"), Some(ca.server.base())));
    assert_eq!([us, ca, eu].map(|region| users(&region.server)), [0, 1, 0]);
    person.run(["init", "--yes", "--no-passphrase"]).expect(0);
    person.write("src/a", "a");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    for (region, blobs) in [(us, false), (ca, true), (eu, false)] {
        let found = std::fs::read_dir(region.server.objects()).unwrap().count() > 0;
        assert_eq!(found, blobs, "objects in {}", region.name);
    }
    // From then on nothing has to say which, and no other region knows the account.
    assert_eq!(person.run(["whoami", "--json"]).expect(0).json()["region"], "ca");
    let log_in = |base: &str| {
        let elsewhere = Person::new();
        let mut command = elsewhere.command(["login", "--server", base, "--email", "a@example.org"]);
        command.env("BACKUPENGINE_PASSWORD", PASSWORD).env("BACKUPENGINE_TOTP_CODE", "000000");
        crate::program::Ran::of(command.output().unwrap())
    };
    for other in [us, eu] {
        let refused = log_in(other.server.base()).expect(4);
        assert!(refused.stderr.contains("invalid_credentials"), "{}", refused.stderr);
    }
    let wrong_code = log_in(ca.server.base()).expect(4);
    assert!(
        wrong_code.stderr.contains("mfa_verification_failed"),
        "its home knows it: {}",
        wrong_code.stderr
    );
}
