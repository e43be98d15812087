//! Files for other programs that pages show, each checked by that program: nginx, HAProxy, Caddy, logrotate, systemd, Prometheus.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::blocks::{self, Block};
use super::root;
use crate::support::tools::{self, TempFolder};

/// The blocks of a language.
fn of_language(language: &str) -> Vec<Block> {
    let blocks: Vec<Block> = blocks::all().into_iter().filter(|block| block.language == language).collect();
    assert!(!blocks.is_empty(), "no page shows {language}");
    blocks
}

/// Has `command` look at a block's file, which is made of the block's text.
fn judge(block: &Block, make: impl Fn(&str, &Path) -> String, command: impl Fn(&Path, &Path) -> Command) {
    let folder = TempFolder::new("others");
    let file = folder.path().join("shown");
    std::fs::write(&file, make(&block.text, folder.path())).expect("the file can be written");
    let ended = command(&file, folder.path()).env("HOME", folder.path()).output().expect("it runs");
    assert!(ended.status.success(), "{block}: {}", said(&ended));
}

/// What a program has written.
fn said(ended: &Output) -> String {
    [&ended.stdout, &ended.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

/// A command of `program` with `arguments`.
fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

#[test]
fn nginx_takes_what_pages_show_of_it() {
    let Some(nginx) = tools::find("nginx") else { return };
    let make = |text: &str, folder: &Path| {
        let folder = folder.display();
        std::fs::create_dir_all(format!("{folder}/var/cache/nginx")).expect("it can be made");
        let text = text.replace(" /var/", &format!(" {folder}/var/"));
        format!("pid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{text}\n}}\n")
    };
    for block in of_language("nginx") {
        judge(&block, make, |file, folder| {
            let mut command = command(&nginx, &["-t", "-e", "stderr", "-p"]);
            command.arg(folder).arg("-c").arg(file);
            command
        });
    }
}

#[test]
fn haproxy_takes_what_pages_show_of_it() {
    let Some(haproxy) = tools::find("haproxy") else { return };
    for block in of_language("haproxy") {
        judge(
            &block,
            |text, _| text.to_owned(),
            |file, _| {
                let mut command = command(&haproxy, &["-c", "-f"]);
                command.arg(file);
                command
            },
        );
    }
}

#[test]
fn caddy_takes_what_pages_show_of_it() {
    let Some(caddy) = tools::find("caddy") else { return };
    for block in of_language("caddyfile") {
        judge(
            &block,
            |text, _| text.to_owned(),
            |file, _| {
                let mut command = command(&caddy, &["validate", "--adapter", "caddyfile", "--config"]);
                command.arg(file);
                command
            },
        );
    }
}

#[test]
fn logrotate_takes_what_pages_show_of_it() {
    let Some(logrotate) = tools::find("logrotate") else { return };
    for block in of_language("logrotate") {
        let make = |text: &str, folder: &Path| {
            text.replace("/var/", &format!("{}/", folder.display())).replacen("{\n", "{\n    missingok\n", 1)
        };
        judge(&block, make, |file, folder| {
            let mut command = command(&logrotate, &["--debug", "--state"]);
            command.arg(folder.join("state")).arg(file);
            command
        });
    }
}

#[test]
fn systemd_takes_what_pages_show_of_it() {
    let Some(analyze) = tools::find("systemd-analyze") else { return };
    let unit = std::fs::read_to_string(root().join("deploy/systemd/tidegate.service")).expect("it is shipped");
    let program = env!("CARGO_BIN_EXE_tidegate");
    // As far as a systemd that is older than the unit knows it.
    let unit = unit.replace("/usr/local/bin/tidegate", program).replace("Type=notify-reload", "Type=notify");
    for block in of_language("systemd") {
        let folder = TempFolder::new("drop-in");
        let (file, parts) = (folder.path().join("tidegate.service"), folder.path().join("tidegate.service.d"));
        std::fs::create_dir(&parts).expect("it can be made");
        std::fs::write(&file, &unit).expect("the file can be written");
        // A drop-in adds a command to those that are there, unless they are taken away first.
        let text = block.text.replace("ExecStart=/usr/local/bin/tidegate", &format!("ExecStart=\nExecStart={program}"));
        std::fs::write(parts.join("shown.conf"), text).expect("the file can be written");
        let ended = Command::new(&analyze).arg("verify").arg(&file).output().expect("it runs");
        let said = said(&ended);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("tidegate")).collect();
        assert!(ended.status.success() && ours.is_empty(), "{block}: {said}");
    }
}

#[test]
fn prometheus_takes_what_pages_show_of_it() {
    let Some(promtool) = tools::find("promtool") else { return };
    let scraped = blocks::all().into_iter().filter(|block| block.mark("checked as") == Some("prometheus"));
    for block in scraped {
        judge(
            &block,
            |text, _| text.to_owned(),
            |file, _| {
                let mut command = command(&promtool, &["check", "config", "--syntax-only"]);
                command.arg(file);
                command
            },
        );
    }
    for block in of_language("promql") {
        let make = |text: &str, _: &Path| {
            let queries = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
            let rule = |(number, query): (usize, &str)| {
                format!("  - {{ record: \"shown:{number}\", expr: {} }}\n", serde_json::Value::from(query))
            };
            format!("groups:\n- name: shown\n  rules:\n{}", queries.enumerate().map(rule).collect::<String>())
        };
        judge(&block, make, |file, _| {
            let mut command = command(&promtool, &["check", "rules"]);
            command.arg(file);
            command
        });
    }
}

#[test]
fn yaml_and_json_of_others_can_be_read() {
    for block in blocks::all() {
        if block.mark("checked as").is_some() {
            serde_yaml::from_str::<serde_yaml::Value>(&block.text).unwrap_or_else(|error| panic!("{block}: {error}"));
        }
        if block.language == "json" {
            // One value, or one a line; `…` stands for more of the same.
            let text = block.text.replace("{…}", "{}").replace(", …", "");
            let mut values = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
            assert!(values.all(|value| value.is_ok()), "{block}: {text}");
        }
    }
}

#[test]
#[ignore = "its tools take minutes to build: `make release` runs it"]
fn the_values_that_a_page_shows_make_manifests_whose_configuration_is_good() {
    let Some(helm) = tools::find("helm") else { return };
    let shown = blocks::all().into_iter().filter(|block| block.mark("checked as") == Some("helm values"));
    let shown: Vec<Block> = shown.collect();
    assert!(!shown.is_empty(), "no page shows values");
    for block in shown {
        let folder = TempFolder::new("values");
        let values = folder.path().join("values.yaml");
        std::fs::write(&values, &block.text).expect("the file can be written");
        let manifests = crate::kubernetes::render(&helm, &[PathBuf::from("-f"), values]);
        crate::kubernetes::check_configuration(&manifests, &folder);
    }
}
