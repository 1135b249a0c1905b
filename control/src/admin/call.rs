//! One call of the API: its way in, what goes with it, what comes back. The router and the `OpenAPI` document are both made of
//! these, so that there is no call without a description.

use std::sync::Arc;

use axum::http::Method;
use axum::routing::MethodRouter;
use config::policy::Role;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::Appliance;

/// A configuration on the wire.
pub(super) const TOML: &str = "application/toml";

/// The schema of a document, made when it is described.
pub(super) type Shape = Box<dyn Fn(&mut SchemaGenerator) -> Schema + Send + Sync>;

/// The shape of a type's documents.
pub(super) fn shape<T: JsonSchema>() -> Shape {
    Box::new(|generator| generator.subschema_for::<T>())
}

/// A schema that is described elsewhere in the document.
pub(super) fn named(name: &str) -> Schema {
    let mut schema = Schema::default();
    schema.insert("$ref".to_owned(), Value::String(format!("#/components/schemas/{name}")));
    schema
}

/// A document, coming or going.
pub(super) struct Content {
    pub(super) media: &'static str,
    pub(super) shape: Shape,
}

/// A value that goes with the call.
pub(super) struct Parameter {
    /// `query`, `header` or `path`.
    pub(super) place: &'static str,
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) says: &'static str,
    pub(super) schema: Value,
}

/// One call.
pub(super) struct Call {
    pub(super) method: Method,
    /// Below `/api/v1`; parts in braces are parameters.
    pub(super) path: String,
    /// Its name in programs.
    pub(super) operation: String,
    pub(super) says: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Content>,
    /// Whether the body may be a large one, which is read in turn.
    pub(super) large: bool,
    /// The status when it succeeds, and another one where there are two.
    pub(super) done: (u16, Option<u16>),
    pub(super) answer: Content,
    /// Who may make it: this role, and those above.
    pub(super) least: Role,
    /// Statuses of refusals, beside those every call can have.
    pub(super) refusals: Vec<u16>,
    pub(super) handler: MethodRouter<Arc<dyn Appliance>>,
}

impl Call {
    pub(super) fn new<T: JsonSchema>(
        method: Method,
        path: impl Into<String>,
        operation: impl Into<String>,
        says: impl Into<String>,
        handler: MethodRouter<Arc<dyn Appliance>>,
    ) -> Self {
        let least = if method == Method::GET { Role::Viewer } else { Role::Admin };
        Self {
            method,
            least,
            path: path.into(),
            operation: operation.into(),
            says: says.into(),
            parameters: Vec::new(),
            body: None,
            large: false,
            done: (200, None),
            answer: Content { media: "application/json", shape: shape::<T>() },
            refusals: Vec::new(),
            handler,
        }
    }

    /// Lesser roles than usual may make it: else who is to look may only look, and who changes anything is an admin.
    pub(super) const fn from(mut self, least: Role) -> Self {
        self.least = least;
        self
    }

    /// It comes with a body that is JSON of this type.
    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        self.takes_shape(shape::<T>())
    }

    /// It comes with a body that is JSON of this shape.
    pub(super) fn takes_shape(mut self, shape: Shape) -> Self {
        self.body = Some(Content { media: "application/json", shape });
        self.refused(&[400, 413])
    }

    /// It comes with a configuration.
    pub(super) fn takes_toml(mut self) -> Self {
        self.body = Some(Content { media: TOML, shape: shape::<String>() });
        self.large().refused(&[400, 413, 422])
    }

    /// Its body may be a large one.
    pub(super) const fn large(mut self) -> Self {
        self.large = true;
        self
    }

    /// It answers with this shape.
    pub(super) fn gives(mut self, shape: Shape) -> Self {
        self.answer.shape = shape;
        self
    }

    /// It answers with documents of another kind than JSON.
    pub(super) const fn in_media(mut self, media: &'static str) -> Self {
        self.answer.media = media;
        self
    }

    /// The statuses of its success.
    pub(super) fn done(mut self, status: u16, or: Option<u16>) -> Self {
        self.done = (status, or);
        self
    }

    /// It can be refused with these, too.
    pub(super) fn refused(mut self, statuses: &[u16]) -> Self {
        self.refusals.extend(statuses);
        self
    }

    fn with(
        mut self,
        place: &'static str,
        name: &'static str,
        required: bool,
        schema: Value,
        says: &'static str,
    ) -> Self {
        self.parameters.push(Parameter { place, name, required, says, schema });
        self
    }

    /// It may come with this in its query.
    pub(super) fn query(self, name: &'static str, schema: Value, says: &'static str) -> Self {
        self.with("query", name, false, schema, says).refused(&[400])
    }

    /// It comes with this in its query.
    pub(super) fn required(self, name: &'static str, schema: Value, says: &'static str) -> Self {
        self.with("query", name, true, schema, says).refused(&[400])
    }

    /// A part of its path.
    pub(super) fn part(self, name: &'static str, says: &'static str) -> Self {
        self.with("path", name, true, json!({"type": "string", "minLength": 1}), says).refused(&[400, 404])
    }

    /// It may come with this header.
    pub(super) fn header(self, name: &'static str, says: &'static str) -> Self {
        self.with("header", name, false, json!({"type": "string"}), says)
    }
}
