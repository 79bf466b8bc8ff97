//! Identity: one-time codes. Without a second factor nobody gets further than the first step of a login.
use crate::auth_world::{Client, Device, PASSWORD, World, address, claims};
use serde_json::{Value, json};

/// Sets what the tests cannot wait for.
async fn sql(world: &World, sql: &str) {
    assert!(world.admin().await.execute(sql, &[]).await.unwrap() > 0, "{sql}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factor_is_added_confirmed_and_asked_for_at_the_next_login() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let first = client.signup(&email).await;
    let body = json!({"factor_type": "totp", "friendly_name": "phone", "issuer": "Backup"});
    let enrolled = client.post_as(&first.access_token.0, "/factors", body).await.ok();
    assert_eq!((&enrolled["type"], &enrolled["friendly_name"]), (&json!("totp"), &json!("phone")));
    let uri = enrolled["totp"]["uri"].as_str().unwrap();
    assert!(uri.starts_with("otpauth://totp/Backup:"), "{uri}");
    assert!(enrolled["totp"]["qr_code"].as_str().unwrap().contains("<svg"));
    let device = Device::read(&enrolled);
    assert_eq!(enrolled["totp"]["secret"], device.totp.secret().to_base32());
    assert_eq!(device.totp.secret().as_bytes().len(), 20);
    let user = client.get("/user", &first.access_token.0).await.ok();
    let shown = &user["factors"][0];
    assert_eq!((&shown["status"], &shown["factor_type"]), (&json!("unverified"), &json!("totp")));
    assert!(shown.get("secret").is_none());

    let challenge = client
        .post_as(&first.access_token.0, &format!("/factors/{}/challenge", device.factor), json!(null))
        .await
        .ok();
    let now = claims(&first.access_token.0)["iat"].as_i64().unwrap();
    assert!((300..=330).contains(&(challenge["expires_at"].as_i64().unwrap() - now)));
    let id = challenge["id"].as_str().unwrap();
    let session = client.verify(&first.access_token.0, &device.factor, id, &device.code(0)).await.session();
    let (before, after) = (claims(&first.access_token.0), claims(&session.access_token.0));
    assert_eq!(after["aal"], "aal2");
    assert_eq!(after["session_id"], before["session_id"]);
    let methods: Vec<_> =
        after["amr"].as_array().unwrap().iter().map(|amr| amr["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["totp", "password"], "the newest first");
    assert_eq!(session.user.factors[0].status, "verified");

    let again = client.login(&email, PASSWORD).await.session();
    assert_eq!(claims(&again.access_token.0)["aal"], "aal1");
    assert_eq!(again.user.factors[0].id, device.factor);
    let again = client.confirm(&again.access_token.0, &device, 1).await.session();
    assert_eq!(claims(&again.access_token.0)["aal"], "aal2");
    assert_eq!(
        client.get("/user", &session.access_token.0).await.status,
        200,
        "the first login is aal2, too"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_counts_once_and_near_its_time() {
    let world = World::start().await;
    let client = world.client();
    let first = client.signup(&address()).await;
    let device = client.enroll(&first.access_token.0).await;
    let codes: Vec<String> = (-4..=4).map(|step| device.code(step)).collect();
    let code = |step: i64| codes[(step + 4) as usize].as_str();
    let session = client.confirm_with(&first.access_token.0, &device, code(0)).await.session();
    let token = &session.access_token.0;
    let confirm = async |step| client.confirm_with(token, &device, code(step)).await;
    // A new challenge, the same code; and one that was shown before it.
    for step in [0, -1] {
        assert_eq!(confirm(step).await.refused(422), "mfa_verification_failed", "{step}");
    }
    confirm(1).await.session();
    for step in [1, 3] {
        assert_eq!(confirm(step).await.refused(422), "mfa_verification_failed", "{step}");
    }
    sql(&world, "update auth.mfa_factors set last_step = null").await;
    assert_eq!(confirm(-3).await.refused(422), "mfa_verification_failed");
    confirm(1).await.session();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_code_given_many_times_at_once_counts_once() {
    let world = World::start().await;
    let client = world.client();
    let (session, device) = client.signup_aal2(&address()).await;
    let (token, code) = (session.access_token.0.clone(), device.code(1));
    let mut challenges = Vec::new();
    for _ in 0..4 {
        challenges.push(client.challenge(&token, &device.factor).await);
    }
    let tries: Vec<_> = challenges
        .into_iter()
        .map(|challenge| {
            let (client, token, factor, code) =
                (client.clone(), token.clone(), device.factor.clone(), code.clone());
            tokio::spawn(async move { client.verify(&token, &factor, &challenge, &code).await })
        })
        .collect();
    let mut accepted = 0;
    for answer in tries {
        let answer = answer.await.unwrap();
        match answer.status {
            200 => accepted += 1,
            404 => assert_eq!(answer.refused(404), "mfa_factor_not_found", "its challenge is gone"),
            _ => assert_eq!(answer.refused(422), "mfa_verification_failed"),
        }
    }
    assert_eq!(accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_is_for_its_factor_its_address_and_five_minutes() {
    let world = World::start().await;
    let client = world.client();
    let (session, device) = client.signup_aal2(&address()).await;
    let (other, others) = client.signup_aal2(&address()).await;
    let token = &session.access_token.0;
    let challenge = client.challenge(token, &device.factor).await;

    let elsewhere = Client::from_address(world.base(), "127.0.0.2");
    let answer = elsewhere.verify(token, &device.factor, &challenge, &device.code(1)).await;
    assert_eq!(answer.refused(422), "mfa_ip_address_mismatch");
    let foreign = client.challenge(&other.access_token.0, &others.factor).await;
    for bad in [foreign.as_str(), "00000000-0000-0000-0000-000000000000", "nothing", ""] {
        let answer = client.verify(token, &device.factor, bad, &device.code(1)).await;
        assert_eq!(answer.refused(404), "mfa_factor_not_found", "{bad}");
    }
    sql(&world, "update auth.mfa_challenges set created_at = created_at - interval '301 seconds'").await;
    let answer = client.verify(token, &device.factor, &challenge, &device.code(1)).await;
    assert_eq!(answer.refused(422), "mfa_challenge_expired");
    let answer = client.verify(token, &device.factor, &challenge, &device.code(1)).await;
    assert_eq!(answer.refused(404), "mfa_factor_not_found", "it is gone");
    // None of these was a guess: nothing is counted against the account.
    client.confirm(token, &device, 1).await.session();
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_factor_is_no_factor() {
    let world = World::start().await;
    let client = world.client();
    let (mine, _) = client.signup_aal2(&address()).await;
    let (other, device) = client.signup_aal2(&address()).await;
    let token = &mine.access_token.0;
    for id in [device.factor.as_str(), "00000000-0000-0000-0000-000000000000", "nothing", "%27%20or%20true"] {
        let path = format!("/factors/{id}");
        let challenge = client.post_as(token, &format!("{path}/challenge"), json!(null)).await;
        assert_eq!(challenge.refused(404), "mfa_factor_not_found", "{id}");
        assert_eq!(
            client.verify(token, id, &device.factor, "000000").await.refused(404),
            "mfa_factor_not_found"
        );
        assert_eq!(client.delete_as(token, &path).await.refused(404), "mfa_factor_not_found");
    }
    assert_eq!(client.get("/user", &other.access_token.0).await.ok()["factors"][0]["id"], device.factor);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_code_is_refused() {
    let world = World::start().await;
    let client = world.client();
    let (session, device) = client.signup_aal2(&address()).await;
    let token = &session.access_token.0;
    let challenge = client.challenge(token, &device.factor).await;
    let right = device.code(1);
    for bad in [String::new(), "12345".into(), format!(" {right}"), format!("{right}0")] {
        assert_eq!(
            client.verify(token, &device.factor, &challenge, &bad).await.refused(422),
            "mfa_verification_failed"
        );
    }
    let path = format!("/factors/{}/verify", device.factor);
    for bad in
        [json!({}), json!({"challenge_id": challenge}), json!({"challenge_id": challenge, "code": 123_456})]
    {
        let answer = client.post_as(token, &path, bad).await;
        assert_eq!(answer.refused(400), "bad_json");
        assert!(!answer.body.to_string().contains("123456"));
    }
    client.verify(token, &device.factor, &challenge, &right).await.session();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_needs_the_first() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let (strong, _) = client.signup_aal2(&email).await;
    let weak = client.login(&email, PASSWORD).await.session();
    let body = json!({"factor_type": "totp"});
    assert_eq!(client.post_as(&weak.access_token.0, "/factors", body).await.refused(403), "insufficient_aal");
    let spare = client.enroll(&strong.access_token.0).await;
    // Begun by the owner, confirmed by whoever knows the password and has seen the code.
    let answer = client.confirm(&weak.access_token.0, &spare, 0).await;
    assert_eq!(answer.refused(403), "insufficient_aal");
    let session = client.confirm(&strong.access_token.0, &spare, 0).await.session();
    assert_eq!(session.user.factors.iter().filter(|factor| factor.status == "verified").count(), 2);
    // Either of the two confirms a login.
    let weak = client.login(&email, PASSWORD).await.session();
    client.confirm(&weak.access_token.0, &spare, 1).await.session();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_knows_the_password_cannot_keep_a_factor_of_his_own_waiting() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let owner = client.signup(&email).await;
    let thief = client.login(&email, PASSWORD).await.session();
    let planted = client.enroll(&thief.access_token.0).await;
    let challenge = client.challenge(&thief.access_token.0, &planted.factor).await;
    let device = client.enroll(&owner.access_token.0).await;
    let session = client.confirm(&owner.access_token.0, &device, 0).await.session();
    assert_eq!(session.user.factors.len(), 1, "what was unverified is gone");
    // The login at aal1 has ended with it; a new one gets no further.
    let answer = client.verify(&thief.access_token.0, &planted.factor, &challenge, &planted.code(0)).await;
    assert_eq!(answer.refused(403), "session_not_found");
    let again = client.login(&email, PASSWORD).await.session();
    let answer = client.verify(&again.access_token.0, &planted.factor, &challenge, &planted.code(0)).await;
    assert_eq!(answer.refused(404), "mfa_factor_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn confirming_ends_the_logins_that_are_not_confirmed() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let (strong, device) = client.signup_aal2(&email).await;
    let (weak, stranger) = (client.login(&email, PASSWORD).await.session(), client.signup(&address()).await);
    let rising = client.login(&email, PASSWORD).await.session();
    client.confirm(&rising.access_token.0, &device, 1).await.session();
    let alive = async |token: &str| client.get("/user", token).await.status == 200;
    assert!(!alive(&weak.access_token.0).await);
    assert_eq!(client.refresh(&weak.refresh_token.0).await.refused(400), "refresh_token_not_found");
    assert!(alive(&strong.access_token.0).await, "confirmed before");
    assert!(alive(&stranger.access_token.0).await, "another account");
}

#[tokio::test(flavor = "multi_thread")]
async fn factors_have_a_number_a_name_and_a_life() {
    let world = World::start().await;
    let client = world.client();
    let session = client.signup(&address()).await;
    let token = &session.access_token.0;
    let enroll = async |body: Value| client.post_as(token, "/factors", body).await;
    for bad in [
        json!({"factor_type": "phone"}),
        json!({"factor_type": "webauthn"}),
        json!({"factor_type": "totp", "friendly_name": "x".repeat(65)}),
        json!({"factor_type": "totp", "friendly_name": "a\u{0}b"}),
        json!({"factor_type": "totp", "issuer": "a:b"}),
    ] {
        assert_eq!(enroll(bad).await.refused(400), "validation_failed");
    }
    let named = json!({"factor_type": "totp", "friendly_name": "phone"});
    let first = Device::read(&enroll(named.clone()).await.ok());
    assert_eq!(enroll(named.clone()).await.refused(422), "mfa_factor_name_conflict");
    for _ in 1..10 {
        // Without a name there may be several.
        enroll(json!({"factor_type": "totp"})).await.ok();
    }
    assert_eq!(enroll(json!({"factor_type": "totp"})).await.refused(422), "too_many_enrolled_mfa_factors");
    let challenge = client.challenge(token, &first.factor).await;
    sql(&world, "update auth.mfa_factors set created_at = created_at - interval '301 seconds'").await;
    let late = client.verify(token, &first.factor, &challenge, &first.code(0)).await;
    assert_eq!(late.refused(404), "mfa_factor_not_found", "unverified factors live five minutes");
    enroll(named).await.ok();
    assert_eq!(client.get("/user", token).await.ok()["factors"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_factor_needs_a_confirmed_login_and_lowers_what_it_confirmed() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let (strong, device) = client.signup_aal2(&email).await;
    let other = client.login(&email, PASSWORD).await.session();
    let other = client.confirm(&other.access_token.0, &device, 1).await.session();
    let spare = client.enroll(&strong.access_token.0).await;
    let spared = client.confirm(&strong.access_token.0, &spare, 0).await.session();
    let weak = client.login(&email, PASSWORD).await.session();
    let path = format!("/factors/{}", device.factor);
    assert_eq!(client.delete_as(&weak.access_token.0, &path).await.refused(422), "insufficient_aal");

    let removed = client.delete_as(&spared.access_token.0, &path).await.ok();
    assert_eq!(removed["id"], device.factor);
    assert_eq!(client.get("/user", &other.access_token.0).await.refused(403), "session_not_found");
    // This login was confirmed with the spare last: it stays where it is.
    let renewed = client.refresh(&spared.refresh_token.0).await.session();
    assert_eq!(claims(&renewed.access_token.0)["aal"], "aal2");
    // Now the one that confirmed it goes.
    client.delete_as(&renewed.access_token.0, &format!("/factors/{}", spare.factor)).await.ok();
    let lowered = client.refresh(&renewed.refresh_token.0).await.session();
    let after = claims(&lowered.access_token.0);
    assert_eq!((&after["aal"], after["amr"].as_array().unwrap().len()), (&json!("aal1"), 1));
    assert_eq!(after["amr"][0]["method"], "password");
    // An unverified one goes at aal1, too.
    let new = client.enroll(&lowered.access_token.0).await;
    client.delete_as(&lowered.access_token.0, &format!("/factors/{}", new.factor)).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factor_sealed_for_another_is_not_opened() {
    let world = World::start().await;
    let client = world.client();
    let (mine, device) = client.signup_aal2(&address()).await;
    let (_, others) = client.signup_aal2(&address()).await;
    // Who can write the table puts his own secret into another's row.
    let swap = format!(
        "update auth.mfa_factors set secret = (select secret from auth.mfa_factors where id = '{}') where id = '{}'",
        others.factor, device.factor
    );
    sql(&world, &swap).await;
    let challenge = client.challenge(&mine.access_token.0, &device.factor).await;
    for code in [others.code(1), device.code(1)] {
        let answer = client.verify(&mine.access_token.0, &device.factor, &challenge, &code).await;
        assert_eq!(answer.refused(500), "unexpected_failure");
        assert!(!answer.body.to_string().contains("totp"), "the client is told no cause");
    }
}
