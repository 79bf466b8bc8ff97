//! A person: signs up, has a second factor, logs in.
use super::{Device, DeviceKeys, Server};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Everybody's.
pub const PASSWORD: &str = "a long enough password";
const STEP: u64 = 30;

/// A login.
#[derive(Clone)]
pub struct Session {
    /// JWT.
    pub access: String,
    /// Used once.
    pub refresh: String,
    /// Seconds since 1970.
    pub expires_at: i64,
}

/// Somebody with an account and a verified second factor.
pub struct User<'s> {
    /// Where.
    pub server: &'s Server,
    /// Address.
    pub email: String,
    /// UUID.
    pub id: String,
    /// UUID of the second factor.
    pub factor: String,
    totp: totp_rs::Totp,
    /// The login of signing up, at aal2.
    pub session: Session,
}

impl<'s> User<'s> {
    pub(super) fn sign_up(server: &'s Server, email: &str) -> Self {
        let answer = post(server, "/signup", None, json!({"email": email, "password": PASSWORD}));
        let first = Session::read(&answer);
        let id = answer["user"]["id"].as_str().unwrap().to_owned();
        let named = json!({"factor_type": "totp", "friendly_name": "phone"});
        let answer = post(server, "/factors", Some(&first.access), named);
        let factor = answer["id"].as_str().unwrap().to_owned();
        let totp = totp_rs::Totp::from_url(answer["totp"]["uri"].as_str().unwrap()).unwrap();
        let mut user = Self { server, email: email.to_owned(), id, factor, totp, session: first };
        user.session = user.confirm(&user.session.access);
        user
    }

    /// A new login by password and one-time code: aal2.
    pub fn login(&self) -> Session {
        let first = self.password_login();
        self.verify(&first.access)
    }

    /// A new login by password alone: aal1.
    pub fn password_login(&self) -> Session {
        let body = json!({"email": self.email, "password": PASSWORD});
        Session::read(&post(self.server, "/token?grant_type=password", None, body))
    }

    /// The code of now.
    pub fn code(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.totp.generate(now / STEP * STEP).to_string()
    }

    /// Confirms a login with a one-time code, without waiting for the next step: the server forgets the last one.
    pub fn verify(&self, access: &str) -> Session {
        let forget = "update auth.mfa_factors set last_step = null where id = $1::text::uuid";
        self.server.admin().execute(forget, &[&self.factor]).unwrap();
        self.confirm(access)
    }

    fn confirm(&self, access: &str) -> Session {
        let path = format!("/factors/{}", self.factor);
        let challenge = post(self.server, &format!("{path}/challenge"), Some(access), json!({}));
        let body = json!({"challenge_id": challenge["id"], "code": self.code()});
        Session::read(&post(self.server, &format!("{path}/verify"), Some(access), body))
    }

    /// A device with keys from this seed, with a login of its own, not enrolled yet.
    pub fn stranger(&self, seed: u8) -> Device<'s> {
        Device::new(self.server, self.login(), DeviceKeys::from_seed(seed))
    }

    /// The same, with a login that is there already.
    pub fn device_of(&self, seed: u8, session: &Session) -> Device<'s> {
        Device::new(self.server, session.clone(), DeviceKeys::from_seed(seed))
    }

    /// What the second factor is made of, as its owner types it.
    pub fn totp_secret(&self) -> String {
        self.totp.secret().to_base32()
    }

    /// The same as `stranger`, enrolled: the first of an account is its owner, every other is pending.
    pub fn device(&self, seed: u8) -> Device<'s> {
        let device = self.stranger(seed);
        device.enroll();
        device
    }
}

impl Session {
    fn read(answer: &Value) -> Self {
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self {
            access: text("access_token"),
            refresh: text("refresh_token"),
            expires_at: answer["expires_at"].as_i64().unwrap(),
        }
    }
}

fn post(server: &Server, path: &str, bearer: Option<&str>, body: Value) -> Value {
    let (status, answer) = server.http("POST", &format!("/auth/v1{path}"), bearer, Some(&body));
    assert_eq!(status, 200, "{path}: {}", answer["error_code"]);
    answer
}
