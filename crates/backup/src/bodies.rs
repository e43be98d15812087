//! Bodies and queries of requests, and what is refused in them.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::component::BackupComponent;
use server_kit::api::error::Error;

/// Backup that is asked for.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "components": ["postgres", "redis", "config"] }))]
pub struct TriggerRequest {
    /// Some of `postgres`, `sqlite`, `redis`, `config` and `logs`. Default: all that this server has.
    components: Option<Vec<String>>,
}

impl TriggerRequest {
    /// Returns the components, each once; `None` for all.
    pub fn components(self) -> Result<Option<Vec<BackupComponent>>, Error> {
        let Some(names) = self.components else { return Ok(None) };
        let mut components = Vec::new();
        for name in &names {
            match BackupComponent::from_name(name) {
                Some(component) if !components.contains(&component) => components.push(component),
                _ => return Err(bad_components()),
            }
        }
        (!components.is_empty()).then_some(Some(components)).ok_or_else(bad_components)
    }
}

fn bad_components() -> Error {
    Error::unprocessable("`components` must be some of `postgres`, `sqlite`, `redis`, `config` and `logs`, each once")
}
