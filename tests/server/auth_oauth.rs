//! Identity: login through a provider. Nobody gets in by a foreign code, a used one, or a redirect to elsewhere.
use crate::auth_flow::{
    VERIFIER, challenge, code, error, exchange, get, param, path, start, to_callback, to_client,
};
use crate::auth_world::{PASSWORD, World, address, claims};
use backupengine_tests::provider::{CLIENT_ID, Idp, Signer, person};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_login_goes_to_the_provider_and_back_and_ends_at_aal1() {
    let (world, idp) = start().await;
    let client = world.client();
    let answer = get(&client, &path(&[("scopes", "openid profile")])).await;
    assert_eq!(
        (&answer.headers["cache-control"], &answer.headers["referrer-policy"]),
        (&"no-store".parse().unwrap(), &"no-referrer".parse().unwrap())
    );
    let to_provider = answer.location();
    assert!(to_provider.as_str().starts_with(&format!("{}/authorize?", idp.base)));
    assert_eq!(param(&to_provider, "client_id").unwrap(), CLIENT_ID);
    assert_eq!(param(&to_provider, "redirect_uri").unwrap(), format!("{}/auth/v1/callback", world.base()));
    assert_eq!(param(&to_provider, "scope").unwrap(), "openid email profile");
    assert!(
        param(&to_provider, "state").unwrap().len() >= 43
            && param(&to_provider, "nonce").unwrap().len() >= 43
    );
    let callback = get(&client, to_provider.as_str()).await.location();
    let back = get(&client, callback.as_str()).await.location();
    let session = exchange(&client, &code(&back), VERIFIER).await.session();
    let claims = claims(&session.access_token.0);
    assert_eq!((&claims["aal"], &claims["amr"][0]["method"]), (&json!("aal1"), &json!("oauth")));
    assert_eq!(claims["app_metadata"], json!({"provider": "google", "providers": ["google"]}));
    assert_eq!(session.user.email.as_deref(), Some("ada@example.org"));
    assert_eq!(session.user.identities[0]["provider"], "google");
    assert_eq!(session.user.identities[0]["id"], "subject-1");
    // The same person again is the same account, also with another address, and confirms with the same code.
    let device = client.enroll(&session.access_token.0).await;
    client.confirm(&session.access_token.0, &device, 0).await.session();
    idp.change(|habits| habits.person = person("subject-1", "new@example.org"));
    let again = exchange(&client, &code(&to_client(&client).await), VERIFIER).await.session();
    assert_eq!(again.user.id, session.user.id);
    assert_eq!(again.user.factors[0].id, device.factor);
    let risen = client.confirm(&again.access_token.0, &device, 1).await.session();
    assert_eq!(crate::auth_world::claims(&risen.access_token.0)["aal"], "aal2");
    // Nobody logs in there with a password.
    assert_eq!(client.login("ada@example.org", PASSWORD).await.refused(400), "invalid_credentials");
    assert_eq!(client.login("ada@example.org", "").await.refused(400), "invalid_credentials");
    // Until he sets one, which needs the second factor.
    let change = json!({"password": PASSWORD});
    assert_eq!(
        client.put_as(&session.access_token.0, "/user", change.clone()).await.refused(401),
        "insufficient_aal"
    );
    client.put_as(&risen.access_token.0, "/user", change).await.ok();
    client.login("ada@example.org", PASSWORD).await.session();
}

#[tokio::test(flavor = "multi_thread")]
async fn rs256_and_a_form_that_is_posted_back_are_understood() {
    let idp = Idp::start(Signer::rs256("rsa")).await;
    let apple = idp.settings("apple");
    let world = World::with(|config| config.providers.push(apple)).await;
    let client = world.client();
    idp.change(|habits| habits.person["email_verified"] = json!("true"));
    let to_provider = get(&client, &path(&[("provider", "apple")])).await.location();
    assert_eq!(param(&to_provider, "response_mode").unwrap(), "form_post");
    let callback = get(&client, to_provider.as_str()).await.location();
    let form: Vec<(String, String)> = callback.query_pairs().into_owned().collect();
    let posted = client.send(client.request(Method::POST, "/callback").form(&form)).await;
    exchange(&client, &code(&posted.location()), VERIFIER).await.session();
    let settings = get(&client, "/settings").await.ok();
    assert_eq!((&settings["external"]["apple"], settings["external"].get("google")), (&json!(true), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn authorize_refuses_what_is_not_pkce_a_provider_or_home() {
    let (world, _) = start().await;
    let client = world.client();
    for (change, expected) in [
        (("provider", "github"), "oauth_provider_not_supported"),
        (("provider", ""), "oauth_provider_not_supported"),
        (("provider", "-"), "oauth_provider_not_supported"),
        (("code_challenge", "-"), "validation_failed"),
        (("code_challenge", "short"), "validation_failed"),
        (("code_challenge", &"x".repeat(129)), "validation_failed"),
        (("code_challenge_method", "-"), "validation_failed"),
        (("code_challenge_method", "plain"), "validation_failed"),
        (("redirect_to", "https://evil.example/"), "validation_failed"),
        (("redirect_to", "http://127.0.0.1@evil.example/"), "validation_failed"),
        (("redirect_to", "http://127.0.0.1.evil.example/"), "validation_failed"),
        (("redirect_to", "http://localhost:4711/"), "validation_failed"),
        (("redirect_to", "//evil.example/"), "validation_failed"),
        (("redirect_to", "javascript:alert(1)"), "validation_failed"),
        (("redirect_to", "http://[::ffff:192.0.2.1]/"), "validation_failed"),
        (("redirect_to", ""), "validation_failed"),
    ] {
        let answer = get(&client, &path(&[change])).await;
        assert_eq!(answer.refused(400), expected, "{change:?}");
        assert!(!answer.headers.contains_key("location"));
    }
    for fine in ["http://127.0.0.1:1/x", "http://[::1]:9/x", &format!("{}/done", world.base()), "-"] {
        let to = get(&client, &path(&[("redirect_to", fine)])).await.location();
        assert!(param(&to, "state").is_some(), "{fine}");
    }
    let none: i64 =
        world.admin().await.query_one("select count(*) from auth.flow_state", &[]).await.unwrap().get(0);
    assert_eq!(none, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_needs_its_verifier_and_counts_once_for_five_minutes() {
    let (world, _) = start().await;
    let client = world.client();
    let first = code(&to_client(&client).await);
    for wrong in ["", "short", &"y".repeat(43), &challenge(VERIFIER), &VERIFIER[..44]] {
        assert_eq!(exchange(&client, &first, wrong).await.refused(400), "bad_code_verifier", "{wrong}");
    }
    exchange(&client, &first, VERIFIER).await.session();
    assert_eq!(exchange(&client, &first, VERIFIER).await.refused(404), "flow_state_not_found");
    for unknown in ["", "x", "00000000-0000-4000-8000-000000000000"] {
        assert_eq!(exchange(&client, unknown, VERIFIER).await.refused(404), "flow_state_not_found");
    }
    let admin = world.admin().await;
    let second = code(&to_client(&client).await);
    let stored: String = admin.query_one("select auth_code from auth.flow_state", &[]).await.unwrap().get(0);
    assert_ne!(stored, second, "kept as a digest");
    assert_eq!(exchange(&client, &stored, VERIFIER).await.refused(404), "flow_state_not_found");
    let late = "update auth.flow_state set auth_code_issued_at = now() - interval '301 seconds'";
    admin.execute(late, &[]).await.unwrap();
    assert_eq!(exchange(&client, &second, VERIFIER).await.refused(422), "flow_state_expired");

    let third = code(&to_client(&client).await);
    let tries: Vec<_> = (0..10)
        .map(|_| {
            let (client, code) = (client.clone(), third.clone());
            tokio::spawn(async move { exchange(&client, &code, VERIFIER).await.status })
        })
        .collect();
    let mut good = 0;
    for status in tries {
        good += u32::from(status.await.unwrap() == 200);
    }
    assert_eq!(good, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_counts_once_and_for_five_minutes() {
    let (world, idp) = start().await;
    let client = world.client();
    let callback = to_callback(&client, &[]).await;
    let mut forged = callback.clone();
    forged.set_query(Some("code=x&state=forged"));
    assert_eq!(get(&client, forged.as_str()).await.refused(400), "bad_oauth_state");
    assert_eq!(get(&client, "/callback?code=x").await.refused(400), "bad_oauth_state");
    assert_eq!(get(&client, "/callback?state=a&state=b").await.refused(400), "validation_failed");
    assert_eq!(client.post("/callback", json!({"state": "a"})).await.refused(400), "bad_oauth_callback");
    code(&get(&client, callback.as_str()).await.location());
    assert_eq!(get(&client, callback.as_str()).await.refused(400), "bad_oauth_state", "used");

    let late = to_callback(&client, &[]).await;
    let sql =
        "update auth.flow_state set created_at = now() - interval '301 seconds' where state is not null";
    assert_eq!(world.admin().await.execute(sql, &[]).await.unwrap(), 1);
    assert_eq!(get(&client, late.as_str()).await.refused(422), "flow_state_expired");
    assert_eq!(get(&client, late.as_str()).await.refused(400), "bad_oauth_state");

    // The person says no, or the provider has a fault: the client is told, and the state is used.
    for (said, expected) in [("access_denied", "access_denied"), ("server_error", "bad_oauth_callback")] {
        let mut refused = to_callback(&client, &[]).await;
        let state = param(&refused, "state").unwrap();
        refused.set_query(Some(&format!("error={said}&error_description=%3Cb%3E&state={state}")));
        let back = get(&client, refused.as_str()).await.location();
        assert_eq!(error(&back), expected);
        assert!(!back.as_str().contains("%3Cb%3E"), "nothing of theirs is passed on");
        assert_eq!(get(&client, refused.as_str()).await.refused(400), "bad_oauth_state");
    }
    let mut empty = to_callback(&client, &[]).await;
    let state = param(&empty, "state").unwrap();
    empty.set_query(Some(&format!("state={state}")));
    assert_eq!(error(&get(&client, empty.as_str()).await.location()), "bad_oauth_callback");
    // A code of the provider's that it does not know.
    let mut foreign = to_callback(&client, &[]).await;
    let state = param(&foreign, "state").unwrap();
    foreign.set_query(Some(&format!("code=foreign&state={state}")));
    assert_eq!(error(&get(&client, foreign.as_str()).await.location()), "bad_oauth_callback");
    assert_eq!(
        idp.change(|habits| habits.form["redirect_uri"].clone()),
        format!("{}/auth/v1/callback", world.base())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_not_joined_by_address() {
    let (world, idp) = start().await;
    let client = world.client();
    let email = address();
    let victim = client.signup(&email).await;
    idp.change(|habits| habits.person = person("subject-9", &email.to_uppercase()));
    assert_eq!(error(&to_client(&client).await), "email_exists");
    let user = client.get("/user", &victim.access_token.0).await.ok();
    assert_eq!(user["identities"].as_array().unwrap().len(), 1);
    for (person, expected) in [
        (
            json!({"sub": "s", "email": "b@example.org", "email_verified": false}),
            "provider_email_needs_verification",
        ),
        (
            json!({"sub": "s", "email": "b@example.org", "email_verified": "false"}),
            "provider_email_needs_verification",
        ),
        (json!({"sub": "s"}), "email_address_not_provided"),
        (json!({"sub": "s", "email": "no address"}), "email_address_not_provided"),
    ] {
        idp.change(|habits| habits.person = person);
        assert_eq!(error(&to_client(&client).await), expected);
    }
    // One that does not say whether it has checked: the address is kept as unconfirmed.
    idp.change(|habits| habits.person = json!({"sub": "s", "email": "b@example.org"}));
    let session = exchange(&client, &code(&to_client(&client).await), VERIFIER).await.session();
    assert_eq!(session.user.email_confirmed_at, None);
    // Its owner cannot be pushed aside by a signup.
    let signup = json!({"email": "b@example.org", "password": PASSWORD});
    assert_eq!(client.post("/signup", signup).await.refused(422), "user_already_exists");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_account_gets_no_session_from_a_provider() {
    let (world, _) = start().await;
    let client = world.client();
    let code = code(&to_client(&client).await);
    let sql = "update auth.users set banned_until = now() + interval '1 hour'";
    world.admin().await.execute(sql, &[]).await.unwrap();
    assert_eq!(exchange(&client, &code, VERIFIER).await.refused(400), "user_banned");
}
