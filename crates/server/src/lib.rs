//! The control plane: identity, device signatures, grants. A thin front; its rules stand in SQL.
//!
//! **What it is.** `/auth/v1` (the GoTrue subset), `/functions/v1/backupengine/*` (our operations), presigning,
//! and `--dev`: PostgreSQL and an S3-compatible store of its own. API.md beside it is its text.
//!
//! **What it may not do.** Decide who may do what (SQL does), see a key or a name, link anything that opens a seal,
//! touch storage with content in hand.
//!
//! **What always holds.** Every database call runs as a role that row-level security binds; every refusal of an
//! operation is written to the audit, but for too many calls, so that a flood does not reach the database; secrets come
//! from the environment or files it names, and print one fixed word.
//!
//! **Where it is tested.** `tests/server` and `tests/hostile`, against real PostgreSQL and a real S3-compatible
//! store; `supabase/tests` (pgTAP).
#![forbid(unsafe_code)]

pub mod app;
mod around;
pub mod auth;
pub mod config;
pub mod db;
#[cfg(unix)]
pub mod dev;
mod error;
pub mod functions;
pub mod grants;
mod limits;
pub mod log;
mod metrics;
pub mod migrate;
pub mod openapi;
pub mod probe;
pub mod rebuild;
mod serve;
pub mod sweep;
mod tls;

pub use error::ServerError;
