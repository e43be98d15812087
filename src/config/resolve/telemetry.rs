//! Section `Telemetry`: the file of the access log.

use std::path::{Path, PathBuf};

use super::ConfigLocation;
use crate::config::file::{AccessLog, AccessLogFormat};
use crate::config::report::ConfigProblem;

/// Resolves `Telemetry.AccessLog.File`; `Some(None)` where there is none.
pub fn access_file(at: &ConfigLocation<'_>, raw: &AccessLog) -> Option<Option<PathBuf>> {
    let Some(text) = &raw.file else { return Some(None) };
    let at = at.key("File");
    if matches!(raw.format, AccessLogFormat::Off) {
        let problem = ConfigProblem::new("there are no lines for the file: `Format` is `off`");
        at.report(problem.help("remove `File`, or give another `Format`"));
    }
    let path = PathBuf::from(at.text(text)?);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let problem = if path.is_dir() {
        ConfigProblem::new(format!("`{}` is a folder", path.display()))
    } else if !folder.is_dir() {
        ConfigProblem::new(format!("there is no folder `{}`", folder.display()))
            .help("a relative path starts at the folder that Tidegate is started in")
    } else {
        return Some(Some(path));
    };
    at.report(problem.expected("the path of a file in a folder that exists"));
    None
}
