//! Identity: accounts, logins, logouts, and the shapes of answers and refusals (GoTrue's).
use crate::auth_world::{PASSWORD, World, address, claims};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_made_and_logs_in() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let data = json!({"email": email.to_uppercase(), "password": PASSWORD, "data": {"name": "Ada"}});
    let body = client.post("/signup", data).await.ok();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("bearer"), &json!(3600)));
    let user = &body["user"];
    assert_eq!(user["email"], email, "kept in small letters");
    assert_eq!((&user["aud"], &user["role"]), (&json!("authenticated"), &json!("authenticated")));
    assert_eq!(user["user_metadata"], json!({"name": "Ada"}));
    assert_eq!(user["app_metadata"], json!({"provider": "email", "providers": ["email"]}));
    assert_eq!(user["identities"][0]["provider"], "email");
    assert_eq!(user["factors"], json!([]));
    assert!(user["email_confirmed_at"].as_str().unwrap().contains('T'));

    let session = client.login(&format!("  {} ", email.to_uppercase()), PASSWORD).await.session();
    assert_eq!(session.user.id, user["id"].as_str().unwrap());
    let claims = claims(&session.access_token.0);
    assert_eq!(claims["iss"], format!("{}/auth/v1", world.base()));
    assert_eq!(claims["sub"], user["id"]);
    assert_eq!((&claims["aud"], &claims["role"]), (&json!("authenticated"), &json!("authenticated")));
    assert_eq!((&claims["email"], &claims["aal"]), (&json!(email), &json!("aal1")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    assert_eq!(claims["exp"].as_i64().unwrap(), session.expires_at);
    assert_eq!(claims["amr"][0]["method"], "password");
    let since = claims["iat"].as_i64().unwrap() - claims["amr"][0]["timestamp"].as_i64().unwrap();
    assert!((0..5).contains(&since), "{since}");
    assert_eq!(claims["session_id"].as_str().unwrap().len(), 36);
    let shown = client.get("/user", &session.access_token.0).await.ok();
    assert_eq!(shown["id"], user["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_address_are_answered_alike() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    client.signup(&email).await;
    let wrong = client.login(&email, "wrong horse battery").await;
    let unknown = client.login(&address(), PASSWORD).await;
    assert_eq!(wrong.refused(400), "invalid_credentials");
    assert_eq!(unknown.refused(400), "invalid_credentials");
    assert_eq!(wrong.body, unknown.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn signup_refuses_what_it_has_to() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    client.signup(&email).await;
    let signup = async |email: &str, password: &str| {
        client.post("/signup", json!({"email": email, "password": password})).await
    };
    assert_eq!(signup(&email, PASSWORD).await.refused(422), "user_already_exists");
    assert_eq!(signup(&email.to_uppercase(), "another password").await.refused(422), "user_already_exists");
    let weak = signup(&address(), "elevenchars").await;
    assert_eq!(weak.refused(422), "weak_password");
    assert_eq!(weak.body["weak_password"]["reasons"], json!(["length"]));
    assert_eq!(signup(&address(), &"x".repeat(73)).await.refused(400), "validation_failed");
    for bad in ["", "plain", "a b@example.org", "a@", "@example.org", "a\u{0}@example.org"] {
        assert_eq!(signup(bad, PASSWORD).await.refused(400), "validation_failed", "{bad:?}");
    }
    let data = json!({"email": address(), "password": PASSWORD, "data": {"long": "x".repeat(3000)}});
    assert_eq!(client.post("/signup", data).await.refused(400), "validation_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_signups_at_once_make_one_account() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let body = json!({"email": email, "password": PASSWORD});
    let tries: Vec<_> = (0..8)
        .map(|_| {
            let (client, body) = (client.clone(), body.clone());
            tokio::spawn(async move { client.post("/signup", body).await.status })
        })
        .collect();
    let mut made = 0;
    for status in tries {
        match status.await.unwrap() {
            200 => made += 1,
            status => assert_eq!(status, 422),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_read_is_refused_without_repeating_it() {
    let world = World::start().await;
    let client = world.client();
    for (path, body, code) in [
        ("/signup", r#"{"email": "a@example.org", "password": hunter2hunter2}"#, "bad_json"),
        ("/signup", r#"{"email": "a@example.org", "password": ["hunter2hunter2"]}"#, "bad_json"),
        ("/signup", "", "bad_json"),
        ("/token?grant_type=password", r#"{"email": 5, "password": "hunter2hunter2"}"#, "validation_failed"),
        ("/token?grant_type=refresh_token", r#"{"refresh": "hunter2hunter2"}"#, "validation_failed"),
        ("/token?grant_type=id_token", r#"{"id_token": "hunter2hunter2"}"#, "validation_failed"),
        ("/token", r#"{"password": "hunter2hunter2"}"#, "validation_failed"),
        ("/token?grant_type=password&grant_type=pkce", "{}", "validation_failed"),
    ] {
        let answer = client.send(client.request(Method::POST, path).body(body)).await;
        assert_eq!(answer.refused(400), code, "{path} {body}");
        assert!(!answer.body.to_string().contains("hunter2"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_identity_does_not_have_is_said_in_its_shape() {
    let world = World::start().await;
    let client = world.client();
    for path in ["/nothing", "/admin/users", "/otp", "/recover", "/verify"] {
        assert_eq!(client.post(path, json!({})).await.refused(404), "not_found", "{path}");
    }
    assert_eq!(client.get("/signup", "x").await.refused(405), "not_found");
    assert_eq!(client.send(client.request(Method::GET, "/user")).await.refused(401), "no_authorization");
    let basic = client.request(Method::GET, "/user").header("authorization", "Basic YTpi");
    assert_eq!(client.send(basic).await.refused(401), "no_authorization");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_open_pages_say_what_clients_need() {
    let world = World::start().await;
    let client = world.client();
    let jwks = client.send(client.request(Method::GET, "/.well-known/jwks.json")).await;
    assert_eq!(jwks.headers["cache-control"], "public, max-age=600");
    let jwks = jwks.ok();
    let key = &jwks["keys"][0];
    assert_eq!((&key["kty"], &key["crv"], &key["alg"]), (&json!("EC"), &json!("P-256"), &json!("ES256")));
    assert!(key.get("d").is_none(), "the private half");
    let token = client.signup(&address()).await.access_token.0;
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(header.kid.as_deref(), key["kid"].as_str());
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.clone()).unwrap();
    let thumbprint = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap();
    assert_eq!(key["kid"], thumbprint, "RFC 7638");
    let settings = client.send(client.request(Method::GET, "/settings")).await.ok();
    assert_eq!(settings["external"]["email"], true);
    assert_eq!((&settings["mfa_enabled"], &settings["mailer_autoconfirm"]), (&json!(true), &json!(true)));
    assert!(client.send(client.request(Method::GET, "/health")).await.ok()["version"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_ends_what_its_scope_says() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    client.signup(&email).await;
    let other_account = client.signup(&address()).await;
    let login = async || client.login(&email, PASSWORD).await.session();
    let alive = async |token: &str| match client.get("/user", token).await {
        answer if answer.status == 200 => true,
        answer => {
            assert_eq!(answer.refused(403), "session_not_found");
            false
        }
    };
    for (scope, expected) in [
        ("?scope=local", [false, true]),
        ("?scope=others", [true, false]),
        ("?scope=global", [false, false]),
        ("", [false, false]),
    ] {
        let (one, two) = (login().await, login().await);
        let answer = client.post_as(&one.access_token.0, &format!("/logout{scope}"), json!(null)).await;
        assert_eq!(answer.status, 204, "{scope}");
        let left = [alive(&one.access_token.0).await, alive(&two.access_token.0).await];
        assert_eq!(left, expected, "{scope}");
        let refreshed = client.refresh(&one.refresh_token.0).await;
        match expected[0] {
            true => drop(refreshed.session()),
            false => assert_eq!(refreshed.refused(400), "refresh_token_not_found"),
        }
    }
    assert!(alive(&other_account.access_token.0).await, "another account");
    let one = login().await;
    let bad = client.post_as(&one.access_token.0, "/logout?scope=all", json!(null)).await;
    assert_eq!(bad.refused(400), "validation_failed");
    assert!(alive(&one.access_token.0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_or_deleted_account_gets_no_further() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let session = client.signup(&email).await;
    let admin = world.admin().await;
    let sql = "update auth.users set banned_until = now() + interval '1 hour' where email = $1";
    assert_eq!(admin.execute(sql, &[&email]).await.unwrap(), 1);
    assert_eq!(client.login(&email, PASSWORD).await.refused(400), "user_banned");
    assert_eq!(client.login(&email, "wrong horse battery").await.refused(400), "invalid_credentials");
    assert_eq!(client.get("/user", &session.access_token.0).await.refused(403), "user_banned");
    assert_eq!(client.refresh(&session.refresh_token.0).await.refused(400), "user_banned");
    let sql = "update auth.users set banned_until = null, deleted_at = now() where email = $1";
    assert_eq!(admin.execute(sql, &[&email]).await.unwrap(), 1);
    assert_eq!(client.login(&email, PASSWORD).await.refused(400), "invalid_credentials");
    assert_eq!(client.get("/user", &session.access_token.0).await.refused(403), "session_not_found");
    assert_eq!(client.refresh(&session.refresh_token.0).await.refused(400), "refresh_token_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_an_end_ends() {
    let world = World::start().await;
    let client = world.client();
    let session = client.signup(&address()).await;
    let admin = world.admin().await;
    admin
        .execute("update auth.sessions set not_after = now() where user_id::text = $1", &[&session.user.id])
        .await
        .unwrap();
    assert_eq!(client.get("/user", &session.access_token.0).await.refused(403), "session_expired");
    assert_eq!(client.refresh(&session.refresh_token.0).await.refused(400), "session_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_lies_in_the_database_in_clear() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let (session, device) = client.signup_aal2(&email).await;
    let admin = world.admin().await;
    let secrets = [
        PASSWORD.to_owned(),
        session.refresh_token.0.clone(),
        session.access_token.0.clone(),
        device.totp.secret().to_base32(),
    ];
    let tables =
        admin.query("select tablename::text from pg_tables where schemaname = 'auth'", &[]).await.unwrap();
    assert!(tables.len() >= 10);
    for table in tables {
        let table: String = table.get(0);
        let rows =
            admin.query(&format!("select row_to_json(t)::text from auth.{table} t"), &[]).await.unwrap();
        for row in rows {
            let text: String = row.get(0);
            assert!(secrets.iter().all(|secret| !text.contains(secret)), "{table}");
        }
    }
    let hash = "select encrypted_password from auth.users where email = $1";
    let hash: String = admin.query_one(hash, &[&email]).await.unwrap().get(0);
    assert!(hash.starts_with("$argon2id$v=19$m="));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_written_down_and_stays() {
    let world = World::start().await;
    let (client, email) = (world.client(), address());
    let (session, device) = client.signup_aal2(&email).await;
    client.login(&email, "wrong horse battery").await.refused(400);
    client.confirm(&session.access_token.0, &device, 0).await.refused(422);
    let change = json!({"password": "another password", "current_password": PASSWORD});
    client.put_as(&session.access_token.0, "/user", change).await.ok();
    client.delete_as(&session.access_token.0, &format!("/factors/{}", device.factor)).await.ok();
    client.post_as(&session.access_token.0, "/logout?scope=local", json!(null)).await;
    let admin = world.admin().await;
    let sql = "select payload->>'action', payload::text, ip_address from auth.audit_log_entries
               where payload->>'actor_id' = $1 order by created_at, id";
    let rows = admin.query(sql, &[&session.user.id]).await.unwrap();
    let actions: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for action in [
        "user_signedup",
        "factor_in_progress",
        "factor_verified",
        "login_refused",
        "verification_refused",
        "user_updated_password",
        "factor_deleted",
        "logout",
    ] {
        assert!(actions.iter().any(|found| found == action), "{action} in {actions:?}");
    }
    for row in &rows {
        assert_eq!(row.get::<_, String>(2), "127.0.0.1");
        assert!(
            !row.get::<_, String>(1).contains("password\":")
                && !row.get::<_, String>(1).contains(&device.code(0))
        );
    }
    let server = world.auth_role().await;
    for sql in [
        "update auth.audit_log_entries set payload = '{}'",
        "delete from auth.audit_log_entries",
        "truncate auth.audit_log_entries",
        "select * from auth.audit_log_entries",
        "create table auth.mine (a int)",
        "drop table auth.audit_log_entries",
        "alter table auth.audit_log_entries disable row level security",
    ] {
        let refused = server.batch_execute(sql).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_reaches_identity() {
    let world = World::start().await;
    let admin = world.admin().await;
    let tables =
        admin.query("select tablename::text from pg_tables where schemaname = 'auth'", &[]).await.unwrap();
    for role in ["anon", "authenticated", "service_role", "authenticator", "backupengine_front"] {
        for table in &tables {
            let table: String = table.get(0);
            for right in ["select", "insert", "update", "delete", "truncate", "references", "trigger"] {
                let sql = "select has_table_privilege($1, 'auth.' || $2, $3)";
                let has: bool = admin.query_one(sql, &[&role, &table, &right]).await.unwrap().get(0);
                assert!(!has, "{role} may {right} auth.{table}");
            }
        }
    }
    let attributes =
        "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls from pg_roles where rolname = $1";
    let strong: bool = admin.query_one(attributes, &[&"backupengine_auth"]).await.unwrap().get(0);
    assert!(!strong);
}
