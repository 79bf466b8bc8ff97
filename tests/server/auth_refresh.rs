//! Identity: refresh tokens rotate; a lost answer costs nothing, a stolen token ends the login.
use crate::auth_world::{Client, World, address, claims};
use std::collections::BTreeSet;

/// Makes all that was used look used long ago: past the reuse window.
async fn age(world: &World) {
    let sql = "update auth.refresh_tokens set updated_at = updated_at - interval '1 hour' where revoked";
    world.admin().await.execute(sql, &[]).await.unwrap();
}

async fn lives(client: &Client, token: &str) -> bool {
    client.get("/user", token).await.status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refresh_gives_another_token_of_the_same_login() {
    let world = World::start().await;
    let client = world.client();
    let first = client.signup(&address()).await;
    let mut seen = BTreeSet::from([first.refresh_token.0.clone()]);
    let mut session = first.clone();
    for _ in 0..5 {
        session = client.refresh(&session.refresh_token.0).await.session();
        assert!(seen.insert(session.refresh_token.0.clone()), "a token came twice");
        let (old, new) = (claims(&first.access_token.0), claims(&session.access_token.0));
        assert_eq!(
            (&old["session_id"], &old["sub"], &old["aal"]),
            (&new["session_id"], &new["sub"], &new["aal"])
        );
        assert_eq!(old["amr"], new["amr"], "when the password was given, not when the token was renewed");
    }
    assert!(lives(&client, &session.access_token.0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parent_gives_the_current_token_again_however_late() {
    let world = World::start().await;
    let client = world.client();
    let first = client.signup(&address()).await.refresh_token.0;
    let second = client.refresh(&first).await.session().refresh_token.0;
    age(&world).await;
    assert_eq!(client.refresh(&first).await.session().refresh_token.0, second, "the answer was lost");
    age(&world).await;
    assert_eq!(client.refresh(&first).await.session().refresh_token.0, second);
    client.refresh(&second).await.session();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_token_within_the_window_gives_the_current_one() {
    let world = World::start().await;
    let client = world.client();
    let first = client.signup(&address()).await.refresh_token.0;
    let second = client.refresh(&first).await.session().refresh_token.0;
    let third = client.refresh(&second).await.session().refresh_token.0;
    assert_eq!(client.refresh(&first).await.session().refresh_token.0, third);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_token_ends_the_login_and_no_other() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let other = client.signup(&email).await;
    let first = client.login(&email, crate::auth_world::PASSWORD).await.session();
    let second = client.refresh(&first.refresh_token.0).await.session();
    let third = client.refresh(&second.refresh_token.0).await.session();
    age(&world).await;
    assert_eq!(client.refresh(&first.refresh_token.0).await.refused(400), "refresh_token_already_used");
    for token in [&first, &second, &third] {
        assert_eq!(client.refresh(&token.refresh_token.0).await.refused(400), "refresh_token_not_found");
        assert!(!lives(&client, &token.access_token.0).await);
    }
    assert!(lives(&client, &other.access_token.0).await);
    client.refresh(&other.refresh_token.0).await.session();
    let sql = "select count(*) from auth.audit_log_entries where payload->>'action' = 'token_revoked'";
    assert_eq!(world.admin().await.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_refreshes_of_one_token_at_once_leave_one_line() {
    let world = World::start().await;
    let client = world.client();
    let first = client.signup(&address()).await;
    for round in 0..3 {
        let before = match round {
            0 => first.refresh_token.0.clone(),
            _ => {
                let sql = "select count(*) from auth.refresh_tokens where not revoked";
                assert_eq!(world.admin().await.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);
                client.refresh(&first.refresh_token.0).await.session().refresh_token.0
            }
        };
        let tries: Vec<_> = (0..20)
            .map(|_| {
                let (client, token) = (client.clone(), before.clone());
                tokio::spawn(async move { client.refresh(&token).await.session().refresh_token.0 })
            })
            .collect();
        let mut answers = BTreeSet::new();
        for answer in tries {
            answers.insert(answer.await.unwrap());
        }
        assert_eq!(answers.len(), 1, "all got the same token");
        let after = answers.pop_first().unwrap();
        assert_ne!(after, before);
        let sql = "select count(*), count(*) filter (where not revoked) from auth.refresh_tokens";
        let row = world.admin().await.query_one(sql, &[]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (round + 2, 1));
        let sql = "select count(*) from auth.sessions";
        assert_eq!(world.admin().await.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_never_given_is_unknown() {
    let world = World::start().await;
    let client = world.client();
    let session = client.signup(&address()).await;
    let token = session.refresh_token.0;
    let changed = format!("{}{}", if token.starts_with('A') { 'B' } else { 'A' }, &token[1..]);
    for bad in
        [changed.as_str(), "", "x", &token[1..], "a\u{0}b", &session.access_token.0, &"y".repeat(100_000)]
    {
        assert_eq!(client.refresh(bad).await.refused(400), "refresh_token_not_found");
    }
    // What stands in the database is no token.
    let stored: String =
        world.admin().await.query_one("select token from auth.refresh_tokens", &[]).await.unwrap().get(0);
    assert_eq!(client.refresh(&stored).await.refused(400), "refresh_token_not_found");
    client.refresh(&token).await.session();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_login_stays_confirmed_and_an_unconfirmed_token_does_not_rise_with_it() {
    let world = World::start().await;
    let client = world.client();
    let before = client.signup(&address()).await;
    let device = client.enroll(&before.access_token.0).await;
    let after = client.confirm(&before.access_token.0, &device, 0).await.session();
    assert_eq!(client.refresh(&before.refresh_token.0).await.refused(400), "refresh_token_not_found");
    let renewed = client.refresh(&after.refresh_token.0).await.session();
    let (old, new) = (claims(&after.access_token.0), claims(&renewed.access_token.0));
    assert_eq!(new["aal"], "aal2");
    assert_eq!(old["amr"], new["amr"]);
    // Confirming once more keeps the way back that a lost answer needs: nothing rises.
    let again = client.confirm(&renewed.access_token.0, &device, 1).await.session();
    assert_eq!(
        client.refresh(&renewed.refresh_token.0).await.session().refresh_token.0,
        again.refresh_token.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn used_tokens_are_forgotten_after_a_month() {
    let world = World::start().await;
    let client = world.client();
    let first = client.signup(&address()).await.refresh_token.0;
    let second = client.refresh(&first).await.session().refresh_token.0;
    let admin = world.admin().await;
    admin
        .execute("update auth.refresh_tokens set updated_at = now() - interval '31 days' where revoked", &[])
        .await
        .unwrap();
    let third = client.refresh(&second).await.session().refresh_token.0;
    let count: i64 = admin.query_one("select count(*) from auth.refresh_tokens", &[]).await.unwrap().get(0);
    assert_eq!(count, 2);
    assert_eq!(client.refresh(&first).await.refused(400), "refresh_token_not_found");
    client.refresh(&third).await.session();
}
