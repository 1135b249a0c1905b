//! The API described: an `OpenAPI` 3.1 document of all calls, and the JSON Schema of every kind of object, both made of what
//! answers and reads.

use std::collections::BTreeMap;

use config::policy::Role;
use config::{Form, Key, forms};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::answer::PROBLEM;
use super::call::{Call, TOML, named};
use crate::status::Problem;

/// Where schemas stand in the document.
const COMPONENTS: &str = "/components/schemas";

/// The document of these calls.
pub(super) fn document(calls: &[Call]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = COMPONENTS.into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for call in calls {
        let operation = operation(call, &mut generator, &problem);
        let methods = paths.entry(format!("/api/v1{}", call.path)).or_default();
        methods.insert(call.method.as_str().to_lowercase(), operation);
    }
    let mut schemas = generator.take_definitions(true);
    schemas.extend(kinds().map(|form| (form.kind.clone(), schema(form, COMPONENTS))));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Millrace",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The control API of a Millrace appliance. Every refusal is a problem document (RFC 9457).",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(call: &Call, generator: &mut SchemaGenerator, problem: &Schema) -> Value {
    let parameters: Vec<Value> = call
        .parameters
        .iter()
        .map(|it| {
            json!({
                "name": it.name, "in": it.place, "required": it.required, "description": it.says, "schema": it.schema,
            })
        })
        .collect();
    let mut responses = Map::new();
    let answer = json!({ call.answer.media: { "schema": (call.answer.shape)(generator) } });
    for status in [Some(call.done.0), call.done.1].into_iter().flatten() {
        responses.insert(status.to_string(), json!({ "description": "Done", "content": answer }));
    }
    let forbidden = if call.least > Role::Viewer { Some(&403) } else { None };
    for status in call.refusals.iter().chain(forbidden).chain(&[500, 503]) {
        responses.insert(
            status.to_string(),
            json!({ "description": "Refused", "content": { PROBLEM: { "schema": problem } } }),
        );
    }
    let mut operation = json!({ "operationId": call.operation, "summary": call.says, "responses": responses,
        "x-least-role": call.least.name() });
    if !parameters.is_empty() {
        operation = with(operation, "parameters", Value::Array(parameters));
    }
    if let Some(body) = &call.body {
        let schema = (body.shape)(generator);
        let mut content = json!({ body.media: { "schema": schema } });
        if body.media == TOML {
            // Whoever has no word for it may call it what it is.
            content = with(content, "text/plain", json!({ "schema": schema }));
        }
        operation = with(operation, "requestBody", json!({ "required": true, "content": content }));
    }
    operation
}

/// The object with one more key.
fn with(mut object: Value, key: &str, value: Value) -> Value {
    if let Value::Object(keys) = &mut object {
        keys.insert(key.to_owned(), value);
    }
    object
}

/// The kinds of objects.
pub(super) fn kinds() -> impl Iterator<Item = &'static Form> {
    forms().values().filter(|form| !form.kind.is_empty())
}

/// The JSON Schema of one kind by itself, with those of the kinds below it.
pub(super) fn alone(form: &Form) -> Value {
    let below = kinds().filter(|other| other.kind.starts_with(&format!("{}.", form.kind)));
    let definitions = below.map(|other| (other.kind.clone(), schema(other, "/$defs"))).collect();
    let schema = with(schema(form, "/$defs"), "$schema", json!("https://json-schema.org/draft/2020-12/schema"));
    with(schema, "$defs", definitions)
}

/// What an object of a kind may hold; the schemas of those below it stand at `place`.
fn schema(form: &Form, place: &str) -> Value {
    let mut properties: Map<String, Value> = form.keys.iter().map(|(name, key)| (name.clone(), of_key(key))).collect();
    for below in &form.tables {
        let reference = json!({ "$ref": format!("#{place}/{below}") });
        let several = forms().get(below).is_some_and(|form| form.several);
        let schema = if several { json!({ "type": "array", "items": reference }) } else { reference };
        let key = below.rsplit_once('.').map_or(below.as_str(), |(_, key)| key);
        properties.insert(key.to_owned(), schema);
    }
    let required: Vec<&String> = form.keys.iter().filter(|(_, key)| key.required).map(|(name, _)| name).collect();
    let header = if form.several { format!("[[{}]]", form.kind) } else { format!("[{}]", form.kind) };
    json!({
        "title": header, "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    })
}

fn of_key(key: &Key) -> Value {
    let mut types = Vec::new();
    match key.booleans {
        (true, true) => types.push(json!({ "type": "boolean" })),
        (false, false) => {}
        (no, _) => types.push(json!({ "const": !no })),
    }
    if let Some(bounds) = key.integer {
        types.push(match bounds {
            Some((least, most)) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            None => json!({ "type": "integer" }),
        });
    }
    if key.text {
        types.push(match key.words.as_slice() {
            [] => json!({ "type": "string" }),
            words => json!({ "type": "string", "enum": words }),
        });
    }
    let value = match <[Value; 1]>::try_from(types) {
        Ok([only]) => only,
        Err(types) => json!({ "anyOf": types }),
    };
    let schema = if key.list { json!({ "type": "array", "items": value, "minItems": 1 }) } else { value };
    with(schema, "description", json!(key.advice))
}

/// The schema of an object of a kind, in the document.
pub(super) fn of_kind(kind: &str) -> Schema {
    named(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_a_kind_says_what_its_readers_take() {
        let rule = alone(&forms()["firewall.rule"]);
        assert_eq!(rule["required"], json!(["action", "name"]));
        assert_eq!(rule["properties"]["action"]["enum"], json!(["allow", "deny", "reject"]));
        assert_eq!(rule["properties"]["source"]["items"], json!({"type": "string"}));
        assert_eq!(rule["properties"]["new_sessions_per_source"]["maximum"], json!(100_000_000));
        let service = alone(&forms()["virtual_service"]);
        assert_eq!(service["properties"]["backend"]["items"]["$ref"], json!("#/$defs/virtual_service.backend"));
        assert_eq!(service["$defs"]["virtual_service.backend"]["title"], json!("[[virtual_service.backend]]"));
        assert_eq!(alone(&forms()["appliance"])["properties"]["state_folder"]["anyOf"][0], json!({"const": false}));
    }
}
