//! Identity: guessing is slow, per account and per address, also with many guesses at once.
use crate::auth_world::{Answer, Client, PASSWORD, World, address};
use serde_json::json;

/// Seconds to wait, as the answer says.
#[track_caller]
fn wait(answer: &Answer) -> u64 {
    assert_eq!(answer.refused(429), "over_request_rate_limit");
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_wrong_passwords_close_an_account_for_a_while() {
    let world = World::start().await;
    let (client, email, nobody) = (world.client(), address(), address());
    client.signup(&email).await;
    for name in [&email, &nobody] {
        for _ in 0..10 {
            assert_eq!(client.login(name, "wrong horse battery").await.refused(400), "invalid_credentials");
        }
        // The right one, or from elsewhere: the account is what counts. One without an account is told the same.
        let elsewhere = Client::from_address(world.base(), "127.0.0.3");
        for client in [&client, &elsewhere] {
            let wait = wait(&client.login(&name.to_uppercase(), PASSWORD).await);
            assert!((850..=901).contains(&wait), "{wait}");
        }
    }
    client.signup(&address()).await;
    let admin = world.admin().await;
    let sql =
        "update auth.attempts set locked_until = now() - interval '1 second' where locked_until is not null";
    assert_eq!(admin.execute(sql, &[]).await.unwrap(), 2);
    client.login(&email, PASSWORD).await.session();
    // The right one has cleared the count.
    for _ in 0..9 {
        client.login(&email, "wrong horse battery").await.refused(400);
    }
    client.login(&email, PASSWORD).await.session();
    assert_eq!(
        admin.query("select 1 from auth.attempts where subject like '%@%'", &[]).await.unwrap().len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_once_get_no_more_tries_than_one_after_the_other() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let (session, device) = client.signup_aal2(&email).await;
    let tries: Vec<_> = (0..40)
        .map(|_| {
            let (client, email) = (client.clone(), email.clone());
            tokio::spawn(async move { client.login(&email, "wrong horse battery").await.status })
        })
        .collect();
    let mut judged = 0;
    for status in tries {
        match status.await.unwrap() {
            400 => judged += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert_eq!(judged, 10);

    let challenge = client.challenge(&session.access_token.0, &device.factor).await;
    let wrong = device.wrong();
    let tries: Vec<_> = (0..20)
        .map(|_| {
            let (client, token, factor, challenge, wrong) = (
                client.clone(),
                session.access_token.0.clone(),
                device.factor.clone(),
                challenge.clone(),
                wrong.clone(),
            );
            tokio::spawn(async move { client.verify(&token, &factor, &challenge, &wrong).await.status })
        })
        .collect();
    let mut judged = 0;
    for status in tries {
        match status.await.unwrap() {
            422 => judged += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert_eq!(judged, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pause_after_wrong_codes_grows() {
    let world = World::start().await;
    let client = world.client();
    let (session, device) = client.signup_aal2(&address()).await;
    let token = &session.access_token.0;
    let challenge = client.challenge(token, &device.factor).await;
    let admin = world.admin().await;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        for _ in 0..5 {
            let answer = client.verify(token, &device.factor, &challenge, &device.wrong()).await;
            assert_eq!(answer.refused(422), "mfa_verification_failed");
        }
        pauses.push(wait(&client.verify(token, &device.factor, &challenge, &device.code(1)).await) / 60);
        admin.execute("update auth.attempts set locked_until = now()", &[]).await.unwrap();
    }
    let expected = [15, 30, 60, 120, 240, 480, 960, 1440, 1440];
    assert!(
        pauses.iter().zip(expected).all(|(pause, expected)| (expected - 1..=expected).contains(pause)),
        "{pauses:?}"
    );
    client.verify(token, &device.factor, &challenge, &device.code(1)).await.session();
    let left: i64 = admin.query_one("select count(*) from auth.attempts", &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_without_a_try_forgets_the_wrong_ones() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    client.signup(&email).await;
    for _ in 0..9 {
        client.login(&email, "wrong horse battery").await.refused(400);
    }
    world
        .admin()
        .await
        .execute("update auth.attempts set since = since - interval '25 hours'", &[])
        .await
        .unwrap();
    for _ in 0..10 {
        assert_eq!(client.login(&email, "wrong horse battery").await.refused(400), "invalid_credentials");
    }
    wait(&client.login(&email, PASSWORD).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_calls_too_often_is_told_to_wait() {
    let world = World::with(|config| config.rate_limits = true).await;
    let (client, elsewhere) = (world.client(), Client::from_address(world.base(), "127.0.0.2"));
    let mut refused = None;
    for _ in 0..40 {
        let answer = client.post("/signup", json!({"email": "plain", "password": PASSWORD})).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.refused(400), "validation_failed");
    }
    let wait = wait(&refused.unwrap());
    assert!((1..=11).contains(&wait), "{wait}");
    // Others, and other calls, go on.
    elsewhere.signup(&address()).await;
    assert_eq!(client.login(&address(), PASSWORD).await.refused(400), "invalid_credentials");
    // A header that anybody can write makes nobody another.
    let forged = client.request(reqwest::Method::POST, "/signup").header("x-forwarded-for", "192.0.2.7");
    let answer = client.send(forged.json(&json!({"email": "plain", "password": PASSWORD}))).await;
    assert_eq!(answer.refused(429), "over_request_rate_limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_address_costs_as_much_as_a_wrong_password() {
    let world = World::with(|config| config.password_cost = (32 * 1024, 3)).await;
    let (client, email) = (world.client(), address());
    client.signup(&email).await;
    let time = async |email: &str| {
        let begun = std::time::Instant::now();
        client.login(email, "wrong horse battery").await.refused(400);
        begun.elapsed()
    };
    // The fastest of several, by turns: whatever else this machine does, it slows down both alike.
    let (mut known, mut unknown) = (std::time::Duration::MAX, std::time::Duration::MAX);
    let nobody = address();
    for _ in 0..9 {
        known = known.min(time(&email).await);
        unknown = unknown.min(time(&nobody).await);
    }
    // Hashing takes far longer than all the rest: without it the answer would come in a fraction.
    assert!(unknown > known / 2 && known > unknown / 2, "{known:?} {unknown:?}");
}
