//! `/functions/v1/backupengine/<op>`: token, device signature, `api.call`, grants; in this order.
use crate::app::App;

/// The routes, to be nested under `/functions/v1/backupengine`.
pub fn router() -> axum::Router<App> {
    todo!()
}
