//! The server as a whole: state, routes, listening, health and metrics.
use crate::ServerError;
use crate::auth::{self, Keys};
use crate::config::{Config, Profile};
use crate::db::Database;
use crate::metrics::Metrics;
use crate::serve::{self, Serving};
use crate::sweep::{self, Sweeping};
use crate::{around, functions, tls};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use backupengine_api::{AUTH_PATH, Code, DIRECTORY_PATH, OPERATIONS_PATH};
use hyper::Request;
use hyper::body::Incoming;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tower::ServiceExt;

pub use crate::around::ClientIp;
pub use crate::functions::Refused;
pub use crate::limits::{Limit, Limits};

/// For requests of our own: to object storage and to providers of logins.
const PATIENCE: Duration = Duration::from_secs(20);
/// For the database to say that it lives.
const PULSE: Duration = Duration::from_secs(3);

/// What every route is given.
#[derive(Clone)]
pub struct App {
    /// Settings.
    pub config: Arc<Config>,
    /// Connections.
    pub db: Database,
    /// Keys of tokens.
    pub keys: Arc<Keys>,
    /// For LIST, HEAD and providers.
    pub http: reqwest::Client,
    /// How often who may call.
    pub limits: Arc<Limits>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
}

/// A server that runs until it is stopped.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    serving: Serving,
    sweeping: Option<Sweeping>,
}

impl App {
    /// Opens the database and reads the keys.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn new(mut config: Config) -> Result<Self, ServerError> {
        let keys = Keys::new(&config.auth, &config.public_url)?;
        let db = Database::connect(&config).await?;
        config.storage.profile = deployment(&db, &config).await?;
        config.storage.need_lock(config.storage.profile)?;
        let http = reqwest::Client::builder()
            .tls_version_min(reqwest::tls::Version::TLS_1_3)
            .https_only(config.tls.is_some())
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .no_proxy()
            .build()
            .map_err(|cause| ServerError::Other(format!("no HTTP client: {cause}")))?;
        let limits = Arc::new(Limits::new(config.rate_limits));
        let metrics = Arc::new(Metrics::default());
        Ok(Self { config: Arc::new(config), db, keys: Arc::new(keys), http, limits, metrics })
    }

    /// All routes.
    pub fn router(self) -> Router {
        Router::new()
            .nest(AUTH_PATH, auth::router())
            .route("/health", get(health))
            .route("/metrics", get(metrics))
            .route(DIRECTORY_PATH, get(directory))
            .fallback(nothing)
            .layer(from_fn(around::whole_body))
            // Operations read their own body: a refusal of it goes to the audit.
            .nest(OPERATIONS_PATH.trim_end_matches('/'), functions::router())
            .layer(from_fn_with_state(self.clone(), around::observe))
            .with_state(self)
    }

    /// Listens and serves; returns when the socket is bound.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn serve(self) -> Result<Running, ServerError> {
        let address = self.config.listen;
        let listening = |source| ServerError::Io { what: format!("listening on {address}"), source };
        let listener = std::net::TcpListener::bind(address).map_err(listening)?;
        listener.set_nonblocking(true).map_err(listening)?;
        self.serve_on(listener)
    }

    /// Serves on a socket that is bound already and does not block.
    pub(crate) fn serve_on(self, listener: std::net::TcpListener) -> Result<Running, ServerError> {
        let listening = |source| ServerError::Io { what: "listening".to_owned(), source };
        let tls = self.config.tls.as_ref().map(|(chain, key)| tls::server(chain, key)).transpose()?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(listening)?;
        let sweeping = sweep::start(&self)?;
        let router = self.router();
        let serving = serve::start(listener, tls, move |peer| {
            let router = router.clone();
            hyper::service::service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(ConnectInfo(peer));
                router.clone().oneshot(request)
            })
        });
        let serving = serving.map_err(listening)?;
        Ok(Running { address: serving.address, serving, sweeping })
    }
}

impl Running {
    /// Stops taking calls, ends those under way within a few seconds.
    pub async fn stop(self) {
        let Self { serving, sweeping, .. } = self;
        // What it is at is done again.
        drop(sweeping);
        serving.stop().await;
    }
}

/// That settings and database speak of the same deployment; and what its store honours.
async fn deployment(db: &Database, config: &Config) -> Result<Profile, ServerError> {
    let client = db.front.get().await.map_err(|cause| ServerError::Pool(cause.to_string()))?;
    let row = client.query_one("select api.deployment(), api.storage_profile()", &[]).await?;
    let (kept, profile): (Option<Value>, Option<Value>) = (row.try_get(0)?, row.try_get(1)?);
    let kept = kept.unwrap_or_default();
    let here = [
        ("region", "BACKUPENGINE_REGION", &config.region),
        ("bucket", "BACKUPENGINE_S3_BUCKET", &config.storage.bucket),
    ];
    for (name, setting, value) in here {
        let kept = kept[name].as_str().unwrap_or("none yet");
        if kept != value {
            let problem = format!(
                "it is {value} here and {kept} in the database: these are two deployments, or `backupengine-server \
                 migrate` is still to be run"
            );
            return Err(ServerError::Setting { setting: setting.to_owned(), problem });
        }
    }
    profile.and_then(Profile::from_json).ok_or_else(|| {
        ServerError::Storage(
            "nobody knows yet what it honours: run `backupengine-server check-storage`".to_owned(),
        )
    })
}

async fn health(State(app): State<App>) -> Response {
    match tokio::time::timeout(PULSE, app.db.pulse()).await {
        Ok(Ok(())) => Json(serde_json::json!({"status": "ok", "region": app.config.region})).into_response(),
        failed => {
            let cause = match failed {
                Ok(Err(cause)) => cause.to_string(),
                _ => "it does not answer in time".to_owned(),
            };
            tracing::error!(cause, "the database cannot be reached");
            Refused::new(Code::Unavailable, "The server's database cannot be reached now.").into_response()
        }
    }
}

/// Open in `--dev`; else for whoever knows the token, and for nobody where none is set.
async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let shown = match &app.config.metrics_token {
        None => app.config.tls.is_none(),
        Some(token) => {
            let said = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let said = said.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
            said.as_bytes().ct_eq(token.expose().as_bytes()).into()
        }
    };
    if !shown {
        return nothing().await.into_response();
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, format!("{}{}", app.metrics.text(), app.db.metrics())).into_response()
}

async fn directory(State(app): State<App>) -> Response {
    ([(header::CACHE_CONTROL, "max-age=300")], Json(&app.config.directory)).into_response()
}

async fn nothing() -> Refused {
    Refused::new(Code::NotFound, "Nothing is served at this address.")
}
