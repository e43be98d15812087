//! Sections that .NET's `appsettings.json` has beside `ReverseProxy`: other parts of an application read them. They are skipped,
//! and a note names each with the key that says the same here.

use super::source::{ConfigNode, MappingEntry, NodeData, SourceSpan};

const LISTENERS: &str = "say where to listen in `Server.Listeners`";
const FILES: &str = "put the files into a store, behind a route with `PresignedUrl`";
const ROUTES: &str = "it belongs to YARP's own container, and a route has no such rule here";

/// Name of a section, in any case, and what says the same here.
const FOREIGN: &[(&str, &str)] = &[
    ("Logging", "use `Telemetry.LogLevel`"),
    ("LogLevel", "use `Telemetry.LogLevel`"),
    ("Serilog", "use `Telemetry`"),
    ("AllowedHosts", "use `Hosts` in the routes' `Match`"),
    ("Kestrel", LISTENERS),
    ("Urls", LISTENERS),
    ("Http_Ports", LISTENERS),
    ("Https_Ports", LISTENERS),
    ("HttpSys", LISTENERS),
    ("LettuceEncrypt", "order certificates by `Server.Acme`"),
    ("ConnectionStrings", "use `Database` and `State`"),
    ("StaticFiles", FILES),
    ("NavigationFallback", FILES),
    ("ErrorPages", FILES),
    ("Headers", ROUTES),
    ("Redirects", ROUTES),
    ("Rewrites", ROUTES),
];

/// Sections that were taken out of a file.
#[derive(Default)]
pub struct ForeignSections {
    /// A sentence for each, for the operator.
    pub notes: Vec<String>,
    /// Their scalars, any of which may be a secret.
    pub masked: Vec<SourceSpan>,
}

/// Takes the sections that are not Tidegate's out of `root`.
pub fn take_foreign_sections(root: &mut ConfigNode) -> ForeignSections {
    let mut found = ForeignSections::default();
    let NodeData::Map(members) = &mut root.data else { return found };
    members.retain(|member| match instead(member) {
        None => true,
        Some(instead) => {
            let line = member.span.start.0;
            found.notes.push(format!("line {line}: `{}` is .NET's and was skipped: {instead}", member.key));
            found.masked.extend(member.value.scalars());
            false
        }
    });
    found
}

/// Returns what takes the place of a section that is not Tidegate's.
fn instead(member: &MappingEntry) -> Option<&'static str> {
    FOREIGN.iter().find(|(name, _)| name.eq_ignore_ascii_case(&member.key)).map(|(_, instead)| *instead)
}
