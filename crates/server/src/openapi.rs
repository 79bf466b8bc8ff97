//! The OpenAPI text of the operations, from the types of `api`.
//!
//! Identity (`/auth/v1`) stays out of it: its shapes are GoTrue's. The golden is `crates/api/openapi.v1.json`;
//! `tests/server` compares.

use backupengine_api::{ApiError, Code, OPERATIONS, OPERATIONS_PATH, SchemaOf, schemas};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

/// Pretty JSON with a line end.
pub fn text() -> String {
    let (mut paths, mut components) = (Map::new(), Map::new());
    components.insert(ApiError::name().into_owned(), json!(ApiError::schema()));
    schemas(|name, request, answer| {
        let mutates = OPERATIONS.iter().any(|operation| operation.name == name && operation.mutates);
        let path = json!({"post": operation(name, mutates, &request, &answer)});
        paths.insert(format!("{OPERATIONS_PATH}{name}"), path);
        for part in [request, answer] {
            components.insert(part.name.clone(), json!(part.schema));
            for (name, schema) in part.parts {
                components.insert(name, json!(schema));
            }
        }
    });
    let mut whole = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "backupengine control plane",
            "version": "1",
            "description": "Every call is a POST with a bearer token of a login at aal2 and the signature of a device \
                (RFC 9421, profile backupengine-device-v1). Opaque bytes are standard base64, ids lower-case \
                hexadecimal digits, times whole seconds since 1970 by the server's clock. A request with an unknown \
                field is refused; an answer may have more fields than stand here.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {"Refused": refusal()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "device": {"type": "apiKey", "in": "header", "name": "Signature"},
            },
        },
        "security": [{"token": [], "device": []}],
    });
    // The same text whatever else is linked.
    whole.sort_all_objects();
    // Serialising a value cannot fail: its keys are text.
    serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"
}

fn operation(name: &str, mutates: bool, request: &SchemaOf, answer: &SchemaOf) -> Value {
    json!({
        "operationId": name,
        "description": if mutates { "Its nonce is used up with it." } else { "Changes nothing." },
        "requestBody": {"required": true, "content": content(&request.name)},
        "responses": {
            "200": {"description": "Done.", "content": content(&answer.name)},
            "default": {"$ref": "#/components/responses/Refused"},
        },
    })
}

/// One text for all refusals: which codes there are, under which status.
fn refusal() -> Value {
    let codes = Code::ALL.iter().map(|code| format!("{} ({})", code.as_str(), code.status()));
    let text =
        format!("Refused. Codes, each with its HTTP status: {}.", codes.collect::<Vec<_>>().join(", "));
    json!({"description": text, "content": content(&ApiError::name())})
}

fn content(schema: &str) -> Value {
    json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference leads somewhere.
    #[test]
    fn the_text_is_whole() {
        let text: Value = serde_json::from_str(&text()).unwrap();
        fn walk(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
                    Value::String(to) if name == "$ref" => found.push(to.clone()),
                    other => walk(other, found),
                }),
                Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
                _ => {}
            }
        }
        let mut references = Vec::new();
        walk(&text, &mut references);
        assert!(references.len() > OPERATIONS.len());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(text.pointer(pointer).is_some_and(Value::is_object), "{reference}");
        }
        assert_eq!(text["paths"].as_object().unwrap().len(), OPERATIONS.len());
    }
}
