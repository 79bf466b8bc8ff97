//! Guards: tenants never meet, and nobody does what his token, device and role do not allow.
//!
//! Against real PostgreSQL and a real S3-compatible store, as the role the front has: owners and superusers pass
//! policies silently and would prove nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to stop")]

mod append_only;
mod auth;
mod auth_factors;
mod auth_flow;
mod auth_jwt;
mod auth_limits;
mod auth_oauth;
mod auth_proof;
mod auth_refresh;
mod auth_user;
mod auth_world;
mod collect;
mod grants;
mod infra;
mod locked;
mod matrix;
mod openapi;
mod pgtap;
mod postgres;
mod program;
mod pushed;
mod rebuild;
mod refused;
mod regions;
mod service;
mod signature;
mod stores;
mod sweep;
mod tls;
mod transfer;
