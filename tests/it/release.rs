//! What is published of a version: archives, the Debian package, checksums, and the list of what the binary is made of.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::tools::{self, TempFolder};

const TOOLS: &[&str] = &["cargo-deb", "cargo-cyclonedx", "helm", "dpkg-deb", "strip", "xz"];

/// What a command writes, which must succeed.
fn output(command: &mut Command) -> String {
    let ended = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("UTF-8")
}

/// The one file in `folder` whose name ends so.
fn file(folder: &Path, ending: &str) -> PathBuf {
    let files = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let found: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    let [file] = found.as_slice() else { panic!("{ending}: {found:?}") };
    file.clone()
}

/// Makes a release of this build's binary, without its symbols, which would take a minute to compress.
fn make(folder: &Path) -> PathBuf {
    let (binary, made) = (folder.join("tidegate"), folder.join("release"));
    output(Command::new("strip").arg("-o").arg(&binary).arg(env!("CARGO_BIN_EXE_tidegate")));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/release.sh");
    output(
        Command::new(script)
            .arg(&binary)
            .env("RELEASE_FOLDER", &made)
            .env("CARGO_NET_OFFLINE", "true")
            .env("DEB_OPTIONS", "--fast"),
    );
    made
}

/// The folder of an archive's content.
fn unpack(archive: &Path, into: &Path) -> PathBuf {
    output(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(into));
    let name = archive.file_name().expect("a name").to_string_lossy().into_owned();
    into.join(name.strip_suffix(".tar.gz").expect("an archive"))
}

#[test]
#[ignore = "its tools take minutes to build: `make release` runs it"]
fn a_release_is_whole_and_what_is_in_it_starts() {
    if TOOLS.iter().map(|tool| tools::find(tool)).any(|found| found.is_none()) {
        return;
    }
    let folder = TempFolder::new("release");
    let made = make(folder.path());
    output(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&made));
    let sums = std::fs::read_to_string(made.join("SHA256SUMS")).expect("it is there");
    let files = std::fs::read_dir(&made).expect("a folder").count();
    assert_eq!(sums.lines().count() + 1, files, "a file has no checksum: {sums}");

    let archive = unpack(&file(&made, "-gnu.tar.gz"), folder.path());
    let version = output(Command::new(archive.join("tidegate")).arg("--version"));
    assert_eq!(version.trim(), concat!("tidegate ", env!("CARGO_PKG_VERSION")));
    output(Command::new("./tidegate").args(["check", "conf/minimal.yaml"]).current_dir(&archive));
    assert!(archive.join("systemd/tidegate.service").is_file() && archive.join("LICENSE").is_file());
    let source = unpack(&file(&made, "-source.tar.gz"), folder.path());
    assert!(source.join("Cargo.lock").is_file() && source.join("crates/s3/Cargo.toml").is_file());

    let list: Value =
        serde_json::from_slice(&std::fs::read(file(&made, ".cdx.json")).expect("it is there")).expect("JSON");
    assert_eq!(list["bomFormat"], "CycloneDX");
    assert!(!list.to_string().contains("/tmp/"), "it tells where it was made");
    assert_eq!(list["metadata"]["component"]["version"], env!("CARGO_PKG_VERSION"));
    let parts = list["components"].as_array().expect("a list");
    for name in ["rustls", "hyper", "tokio"] {
        let part = parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("{name} is not listed"));
        assert!(
            part["purl"].as_str().is_some_and(|it| it.starts_with("pkg:cargo/")) && part["licenses"].is_array(),
            "{part}"
        );
    }
    assert!(file(&made, ".tgz").is_file(), "the chart");
    package(&file(&made, ".deb"), &folder.path().join("package"));
}

/// Looks at the package and starts what is in it.
fn package(package: &Path, folder: &Path) {
    let field = |name: &str| output(Command::new("dpkg-deb").arg("--field").arg(package).arg(name)).trim().to_owned();
    assert_eq!((field("Package").as_str(), field("Section").as_str()), ("tidegate", "net"));
    assert!(field("Version").starts_with(env!("CARGO_PKG_VERSION")));
    assert!(field("Depends").contains("libc6") && field("Depends").contains("ca-certificates"), "{}", field("Depends"));
    output(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(folder));
    let read =
        |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    // An administrator's changes survive an upgrade of the package.
    assert_eq!(read("DEBIAN/conffiles").trim(), "/etc/tidegate/tidegate.yaml");
    let (installed, removed) = (read("DEBIAN/postinst"), read("DEBIAN/prerm"));
    assert!(installed.contains("deb-systemd-helper enable tidegate.service"), "{installed}");
    assert!(removed.contains("stop tidegate.service"), "{removed}");
    // With sockets that no listener names the service would not start.
    assert!(!installed.contains(".socket"), "{installed}");
    let unit =
        ["usr/lib/systemd/system", "lib/systemd/system"].map(|place| folder.join(place).join("tidegate.service"));
    let unit = unit.into_iter().find(|unit| unit.is_file()).expect("a unit");
    let unit = std::fs::read_to_string(unit).expect("it is readable");
    let started = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/")).expect("a command");
    let mut words = started.split_whitespace();
    let program = folder.join(words.next().expect("a program"));
    assert!(program.is_file() && words.eq(["serve", "-c", "/etc/tidegate/tidegate.yaml"]), "{started}");

    // As the unit starts it, on other ports.
    let config = read("etc/tidegate/tidegate.yaml").replace(":8080", ":0").replace(":9901", ":0");
    let file = folder.join("tidegate.yaml");
    std::fs::write(&file, config).expect("the file can be written");
    let mut serve = Command::new(program);
    serve.args(["serve", "-c"]).arg(file).current_dir(folder).env_clear();
    let mut process = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line).expect("it can be read");
    process.kill().expect("it can be ended");
    process.wait().expect("it ends");
    assert!(line.starts_with("ready {"), "{line:?}");
}

#[test]
fn what_a_tag_would_be_is_what_the_changelog_and_the_chart_say() {
    let read =
        |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("it is there");
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CHANGELOG.md").contains(&format!("## [{version}]")));
    let chart: serde_yaml::Value = serde_yaml::from_str(&read("deploy/helm/tidegate/Chart.yaml")).expect("YAML");
    assert_eq!((chart["version"].as_str(), chart["appVersion"].as_str()), (Some(version), Some(version)));
}
