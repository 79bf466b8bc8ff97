//! The OpenAPI text of the operations, from the types of `api`.

/// Pretty JSON with a line end.
pub fn text() -> String {
    todo!()
}
