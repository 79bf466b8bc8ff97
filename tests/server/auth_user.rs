//! Identity: what an account stands on changes only by who owns it.
use crate::auth_world::{PASSWORD, World, address, claims};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_needs_the_old_one_and_ends_other_logins() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let mine = client.signup(&email).await;
    let other = client.login(&email, PASSWORD).await.session();
    let token = &mine.access_token.0;
    let put = async |body| client.put_as(token, "/user", body).await;
    assert_eq!(put(json!({"password": "another password"})).await.refused(400), "reauthentication_needed");
    let wrong = json!({"password": "another password", "current_password": "wrong horse battery"});
    assert_eq!(put(wrong).await.refused(400), "invalid_credentials");
    let same = json!({"password": PASSWORD, "current_password": PASSWORD});
    assert_eq!(put(same).await.refused(422), "same_password");
    let weak = put(json!({"password": "short", "current_password": PASSWORD})).await;
    assert_eq!(weak.refused(422), "weak_password");
    assert_eq!(weak.body["weak_password"]["reasons"], json!(["length"]));
    assert_eq!(client.get("/user", &other.access_token.0).await.status, 200, "nothing has changed yet");

    put(json!({"password": "another password", "current_password": PASSWORD})).await.ok();
    assert_eq!(client.get("/user", token).await.status, 200, "the login that changed it stays");
    assert_eq!(client.get("/user", &other.access_token.0).await.refused(403), "session_not_found");
    assert_eq!(client.refresh(&other.refresh_token.0).await.refused(400), "refresh_token_not_found");
    assert_eq!(client.login(&email, PASSWORD).await.refused(400), "invalid_credentials");
    client.login(&email, "another password").await.session();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_second_factor_a_change_needs_it() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let (strong, _) = client.signup_aal2(&email).await;
    let weak = client.login(&email, PASSWORD).await.session();
    let email_change = json!({"email": address(), "current_password": PASSWORD});
    let password_change = json!({"password": "another password", "current_password": PASSWORD});
    for change in [email_change, password_change] {
        let refused = client.put_as(&weak.access_token.0, "/user", change.clone()).await;
        assert_eq!(refused.refused(401), "insufficient_aal");
        client.put_as(&strong.access_token.0, "/user", change).await.ok();
    }
    // What is no matter of who owns the account needs no code.
    let weak = client.login(&weak.user.email.unwrap(), "another password").await;
    assert_eq!(weak.refused(400), "invalid_credentials", "the address has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_changes_with_the_password_and_only_to_a_free_one() {
    let world = World::start().await;
    let (client, email, taken, new) = (world.client(), address(), address(), address());
    client.signup(&taken).await;
    let session = client.signup(&email).await;
    let put = async |body| client.put_as(&session.access_token.0, "/user", body).await;
    assert_eq!(put(json!({"email": new})).await.refused(400), "reauthentication_needed");
    let change = |email: &str| json!({"email": email, "current_password": PASSWORD});
    assert_eq!(put(change(&taken.to_uppercase())).await.refused(422), "email_exists");
    assert_eq!(put(change("plain")).await.refused(400), "validation_failed");
    let user = put(change(&new.to_uppercase())).await.ok();
    assert_eq!((&user["email"], &user["identities"][0]["email"]), (&json!(new), &json!(new)));
    assert_eq!(client.login(&email, PASSWORD).await.refused(400), "invalid_credentials");
    assert_eq!(claims(&client.login(&new, PASSWORD).await.session().access_token.0)["email"], new);
    // The same address again changes nothing, and needs no password.
    put(json!({"email": new.to_uppercase()})).await.ok();
    // The old one is free now.
    client.signup(&email).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_merged_bounded_and_never_a_right() {
    let world = World::start().await;
    let client = world.client();
    let session = client.signup(&address()).await;
    let put = async |body| client.put_as(&session.access_token.0, "/user", body).await;
    assert_eq!(put(json!({"data": {"a": 1, "b": 2}})).await.ok()["user_metadata"], json!({"a": 1, "b": 2}));
    assert_eq!(
        put(json!({"data": {"b": null, "c": 3}})).await.ok()["user_metadata"],
        json!({"a": 1, "c": 3})
    );
    for bad in [
        json!({"data": [1]}),
        json!({"data": "text"}),
        json!({"data": {"long": "x".repeat(2048)}}),
        json!({"data": {"zero": "\u{0}"}}),
    ] {
        assert_eq!(put(bad).await.refused(400), "validation_failed");
    }
    for key in ["d", "e"] {
        let status = put(json!({"data": {key: "x".repeat(1500)}})).await.status;
        assert_eq!(status, if key == "d" { 200 } else { 400 }, "the sum is bounded, too");
    }
    // What a user writes about himself stays there.
    put(json!({"data": {"d": null, "role": "service_role", "aal": "aal2"}, "app_metadata": {"admin": true}, "role": "service_role", "aal": "aal2"})).await.ok();
    let token = client.refresh(&session.refresh_token.0).await.session().access_token.0;
    let claims = claims(&token);
    assert_eq!((&claims["role"], &claims["aal"]), (&json!("authenticated"), &json!("aal1")));
    assert!(claims["app_metadata"].get("admin").is_none());
    assert_eq!(claims["user_metadata"]["role"], "service_role");
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_the_current_password_is_counted_like_a_login() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let session = client.signup(&email).await;
    for _ in 0..10 {
        let guess = json!({"password": "another password", "current_password": "wrong horse battery"});
        assert_eq!(
            client.put_as(&session.access_token.0, "/user", guess).await.refused(400),
            "invalid_credentials"
        );
    }
    let right = json!({"password": "another password", "current_password": PASSWORD});
    let refused = client.put_as(&session.access_token.0, "/user", right).await;
    assert_eq!(refused.refused(429), "over_request_rate_limit");
    assert_eq!(client.login(&email, PASSWORD).await.refused(429), "over_request_rate_limit");
}
