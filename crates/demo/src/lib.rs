//! The demo: sample music, its configuration, and a folder as an object store.
//!
//! It must not know how the proxy works: the player page that `tidegate demo` opens is a client like any other.

pub mod embedded;
pub mod media;
mod score;
mod synth;

use std::net::SocketAddr;
use std::path::Path;

/// The demo's configuration, as an operator would write it.
const CONFIGURATION: &str = include_str!("tidegate.yaml");

/// Returns the YAML of the demo: the embedded store on `root` (the bucket is its folder `audio`), listening at
/// `listen`; the secret that signs tokens is expected as `env:TIDEGATE_DEMO_SECRET`.
pub fn configuration(root: &Path, listen: SocketAddr) -> String {
    // A JSON text is a YAML text, whatever the path holds.
    let quoted = |text: String| serde_json::Value::from(text).to_string();
    let database = format!("sqlite://{}", root.join("tidegate.db").to_string_lossy());
    CONFIGURATION
        .replace("127.0.0.1:8080", &listen.to_string())
        .replace("\"sqlite://data/demo/tidegate.db\"", &quoted(database))
        .replace("\"./data/demo\"", &quoted(root.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::configuration;

    #[test]
    fn the_configuration_has_the_address_and_the_folder_whatever_it_is_named() {
        let text = configuration(Path::new("/srv/my \"music\": #1"), "127.0.0.1:0".parse().unwrap());
        let yaml: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(yaml["Server"]["Listeners"][0]["Address"], "127.0.0.1:0");
        assert_eq!(yaml["ObjectStores"]["folder"]["Embedded"], "/srv/my \"music\": #1");
        assert_eq!(yaml["Database"]["Url"], "sqlite:///srv/my \"music\": #1/tidegate.db");
    }
}
