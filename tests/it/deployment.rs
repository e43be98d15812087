//! What is shipped beside the binary: `docker-compose.yml`, the Dockerfile, the configuration in the image, and whether they
//! agree with each other and with the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use crate::support::config;
use crate::support::gate::{Gate, command};
use crate::support::tools::{self, TempFolder};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Value {
    let mut document: Value = serde_yaml::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    document.apply_merge().expect("the anchors fit");
    document
}

fn compose() -> Value {
    yaml("docker-compose.yml")
}

/// The services with their names.
fn services(compose: &Value) -> Vec<(&str, &Value)> {
    let all = compose["services"].as_mapping().expect("services");
    all.iter().map(|(name, service)| (name.as_str().expect("a name"), service)).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_sequence().map(|all| all.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// The environment of a service.
fn environment(service: &Value) -> BTreeMap<&str, String> {
    let text =
        |value: &Value| value.as_str().map_or_else(|| serde_yaml::to_string(value).expect("YAML"), str::to_owned);
    let all = service["environment"].as_mapping().into_iter().flatten();
    all.map(|(name, value)| (name.as_str().expect("a name"), text(value).trim().to_owned())).collect()
}

/// The names of `${NAME…}` in `text`, with what follows each.
fn variables(text: &str) -> Vec<(&str, &str)> {
    let inside = text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(inside, _)| inside);
    let end = |text: &str| text.find(|one: char| !one.is_ascii_alphanumeric() && one != '_').unwrap_or(text.len());
    inside.map(|inside| inside.split_at(end(inside))).collect()
}

/// Whether a value under this name is nobody's business.
fn is_secret(name: &str) -> bool {
    ["SECRET", "PASSWORD", "TOKEN"].iter().any(|word| name.contains(word))
}

#[test]
fn no_secret_stands_in_the_repository_and_each_is_made_by_the_script() {
    let compose = compose();
    let script = read("scripts/compose-secrets.sh");
    let mut wanted = BTreeSet::new();
    for (service, definition) in services(&compose) {
        for (name, value) in environment(definition) {
            let asked = variables(&value);
            let required = asked.iter().filter(|(_, rest)| rest.starts_with(":?")).map(|(name, _)| (*name).to_owned());
            wanted.extend(required);
            if is_secret(name) {
                assert!(asked.iter().any(|(_, rest)| rest.starts_with(":?")), "{service}: {name}: {value}");
            }
            for (variable, rest) in asked.iter().filter(|(variable, _)| is_secret(variable)) {
                assert!(rest.starts_with(":?"), "{service}: {name}: {variable} has a default: {rest}");
            }
            if let Some((user, _)) = value.split_once("://").and_then(|(_, rest)| rest.split_once('@')) {
                let password = user.split_once(':').map_or("${A:?}", |(_, password)| password);
                assert!(password.starts_with("${"), "{service}: {name}: {value}");
            }
        }
    }
    assert!(wanted.len() >= 4, "{wanted:?}");
    for name in &wanted {
        assert!(script.split_whitespace().any(|word| word.trim_end_matches(';') == name), "{name} is made by nobody");
    }
    assert!(read(".gitignore").lines().any(|line| line == "/.env"), "the file of secrets could be committed");
}

#[test]
fn tidegate_has_the_time_to_end_that_its_configuration_asks_for() {
    let grace = yaml("deploy/tidegate.yaml")["Server"]["ShutdownGrace"].as_str().unwrap_or("30s").to_owned();
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().expect("seconds");
    let compose = compose();
    let given = compose["services"]["tidegate"]["stop_grace_period"].as_str().expect("stop_grace_period");
    assert!(seconds(given) > seconds(&grace), "{given} after a grace of {grace}");
}

#[test]
fn what_keeps_data_has_a_volume_and_a_health_check() {
    let compose = compose();
    let declared = compose["volumes"].as_mapping().expect("volumes");
    for name in ["redis", "kafka", "postgres", "minio"] {
        let service = &compose["services"][name];
        let kept = texts(&service["volumes"]);
        let named = kept.iter().filter_map(|volume| volume.split_once(':')).map(|(volume, _)| volume);
        assert!(named.clone().any(|volume| declared.contains_key(volume)), "{name}: {kept:?}");
        assert!(!texts(&service["healthcheck"]["test"]).is_empty(), "{name} has no health check");
    }
    for (name, service) in services(&compose) {
        for volume in texts(&service["volumes"]) {
            let (from, _) = volume.split_once(':').expect("a volume and its place");
            let is_there =
                from.strip_prefix("./").map_or_else(|| declared.contains_key(from), |path| root().join(path).is_file());
            assert!(is_there, "{name}: {volume} is not there");
        }
        let waits_for = service["depends_on"].as_mapping().into_iter().flatten();
        for (other, how) in waits_for {
            let other = &compose["services"][other.as_str().expect("a name")];
            assert!(other.is_mapping(), "{name} waits for nobody");
            if how["condition"].as_str() == Some("service_healthy") {
                assert!(other["healthcheck"].is_mapping(), "{name} waits for a health that nobody checks");
            }
        }
    }
}

#[test]
fn the_image_is_asked_for_its_health_on_the_admin_address() {
    let (dockerfile, config) = (read("Dockerfile"), yaml("deploy/tidegate.yaml"));
    let port = |address: &Value| address.as_str().and_then(|it| it.rsplit_once(':')).expect("a port").1.to_owned();
    let admin = port(&config["Server"]["Admin"]["Address"]);
    let players = port(&config["Server"]["Listeners"][0]["Address"]);
    let line = |start: &str| dockerfile.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    let check = line("HEALTHCHECK");
    let name = variables(check).first().map(|(name, _)| *name).expect("the port is a variable");
    assert!(check.contains("/livez"), "{check}");
    assert!(dockerfile.contains(&format!("ENV {name}={admin}\n")), "{name} is not {admin}");
    let exposed: Vec<&str> = line("EXPOSE").split_whitespace().skip(1).collect();
    assert_eq!(exposed, [players.as_str(), admin.as_str()]);
    let compose = compose();
    let published = texts(&compose["services"]["tidegate"]["ports"]);
    // The admin address is for this machine only.
    assert_eq!(published, [format!("{players}:{players}"), format!("127.0.0.1:{admin}:{admin}")]);
    let scraped = read("deploy/prometheus.yml");
    assert!(scraped.contains(&format!("tidegate:{admin}")), "{scraped}");
    let token = compose["services"]["prometheus"]["command"][0].as_str().expect("a command");
    assert!(token.contains("> /tmp/admin-token") && scraped.contains("credentials_file: /tmp/admin-token"));
}

#[tokio::test]
async fn the_health_check_of_the_image_is_a_command_that_tells_life_from_death() {
    let dockerfile = read("Dockerfile");
    let check = dockerfile.lines().find(|line| line.starts_with("HEALTHCHECK")).expect("it has one");
    let words: Vec<String> = serde_json::from_str(&check[check.find('[').expect("a list")..]).expect("a list");
    let ask = async |port: u16| {
        let mut command = tokio::process::Command::new(&words[0]);
        command.args(&words[1..]).env("TIDEGATE_ADMIN_PORT", port.to_string());
        command.output().await.expect("it runs").status.success()
    };
    let gate = Gate::start(&config::objects("http://127.0.0.1:1", "audio")).await;
    // Its store is away, and it lives.
    assert!(ask(gate.admin_address().port()).await);
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("an address");
    assert!(!ask(nobody.port()).await);
}

#[test]
fn the_image_builds_dependencies_apart_and_runs_as_nobody() {
    let dockerfile = read("Dockerfile");
    let place = |text: &str| dockerfile.find(text).unwrap_or_else(|| panic!("{text:?} is not in the Dockerfile"));
    // A layer with all dependencies, which is made of nothing but manifests.
    assert!(place("COPY --from=manifests /manifests") < place("RUN scripts/dist.sh"));
    let user = dockerfile.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 999)), "{user}");
    for label in ["title", "source", "licenses", "version", "revision"] {
        assert!(dockerfile.contains(&format!("org.opencontainers.image.{label}=")), "{label}");
    }
    let folder = TempFolder::new("manifests");
    let script = std::process::Command::new(root().join("scripts/only-manifests.sh")).arg(folder.path()).status();
    assert!(script.expect("it runs").success());
    let mut metadata = std::process::Command::new(env!("CARGO"));
    metadata.args(["metadata", "--locked", "--offline", "--format-version", "1"]).current_dir(folder.path());
    let read = metadata.output().expect("it runs");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let code = sources(folder.path());
    assert!(!code.is_empty() && code.lines().all(|line| line == "fn main() {}" || line == "//! Nothing."), "{code}");
}

/// The names that a configuration takes from the environment.
fn asked_for(config: &str) -> BTreeSet<&str> {
    let end = |text: &str| text.find(|one: char| !one.is_ascii_alphanumeric() && one != '_').unwrap_or(text.len());
    config.split("env:").skip(1).map(|rest| &rest[..end(rest)]).filter(|name| !name.is_empty()).collect()
}

#[tokio::test]
async fn the_image_starts_with_the_configuration_and_the_environment_of_compose() {
    let (dockerfile, config, compose) = (read("Dockerfile"), read("deploy/tidegate.yaml"), compose());
    let list = |start: &str| -> Vec<String> {
        let line = dockerfile.lines().find_map(|line| line.strip_prefix(start)).expect(start);
        serde_json::from_str(line).expect("a list")
    };
    let (entry, mut arguments) = (list("ENTRYPOINT "), list("CMD "));
    assert_eq!(entry, ["tidegate"]);
    let service = &compose["services"]["tidegate"];
    arguments = service["command"]
        .as_sequence()
        .map_or(arguments, |_| texts(&service["command"]).into_iter().map(str::to_owned).collect());
    let file = arguments.last().expect("a configuration").clone();
    assert!(dockerfile.contains(&format!("COPY deploy/tidegate.yaml {file}\n")), "{file} is not in the image");
    let environment = environment(service);
    let given: BTreeSet<&str> = environment.keys().copied().collect();
    assert_eq!(given, asked_for(&config), "what Compose gives, and what the configuration asks for");
    // A secret as the script makes them.
    let filled = environment.iter().map(|(name, value)| {
        let value = variables(value).iter().fold(value.clone(), |value, (variable, rest)| {
            let with = rest.strip_prefix(":-").unwrap_or("0123456789abcdef0123456789abcdef0123456789abcdef");
            value.replace(&format!("${{{variable}{rest}}}"), with)
        });
        ((*name).to_owned(), value)
    });
    let filled: Vec<(String, String)> = filled.collect();
    let folder = TempFolder::new("image");
    let shipped = root().join("deploy/tidegate.yaml");
    let mut check = command(&folder);
    let ended = check.arg("check").arg(&shipped).envs(filled).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    assert!(!said.contains("warning"), "{said}");
    // The flags of the image's command are the binary's.
    let flags = command(&folder).args(&arguments).arg("--help").output().await.expect("it runs");
    assert!(flags.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&flags.stderr));
}

#[test]
fn paths_that_the_image_is_built_from_are_in_the_repository() {
    let dockerfile = read("Dockerfile");
    let scripts = dockerfile.split(|one: char| one.is_whitespace() || "\"$()".contains(one));
    let named = scripts.filter(|word| word.starts_with("scripts/") || word.starts_with("deploy/"));
    let named: Vec<&str> = named.collect();
    assert!(!named.is_empty());
    for path in named {
        assert!(Path::new(&root()).join(path).exists(), "{path}");
    }
}

/// Names of metrics in a text, without what a histogram adds.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|one: char| !one.is_ascii_alphanumeric() && one != '_');
    let named = words.filter(|word| word.starts_with("tidegate_") || word.starts_with("novatune_"));
    named
        .map(|name| ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name))
        .collect()
}

/// The text of all sources below `folder`.
fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            None if path.is_dir() => all.push_str(&sources(&path)),
            Some("rs") => all.push_str(&std::fs::read_to_string(&path).expect("the file is readable")),
            _ => {}
        }
    }
    all
}

/// The metrics of films that the dashboard must show; all else of them is for one who looks for a reason.
#[test]
fn the_dashboard_of_films_shows_every_metric_of_films() {
    let dashboard = read("deploy/grafana/films.json");
    let shown = metrics_in(&dashboard);
    let counted = format!("{}{}", sources(&root().join("crates/vod")), sources(&root().join("crates/playback")));
    let ours = counted
        .split('"')
        .filter(|text| text.starts_with("tidegate_vod_") || text.starts_with("tidegate_positions_backlog"));
    let missing: Vec<&str> = ours.filter(|name| !shown.iter().any(|shown| shown.starts_with(name))).collect();
    assert!(missing.is_empty(), "deploy/grafana/films.json does not show {missing:?}");
}

#[test]
fn every_metric_of_dashboards_and_alerts_is_counted_and_each_dashboard_is_mounted() {
    let counted = format!("{}{}", sources(&root().join("src")), sources(&root().join("crates")));
    let compose = read("docker-compose.yml");
    let mut files = vec!["deploy/alerts.yml".to_owned()];
    for entry in std::fs::read_dir(root().join("deploy/grafana")).expect("a folder").flatten() {
        let name = entry.file_name().into_string().expect("UTF-8");
        files.extend(name.ends_with(".json").then(|| format!("deploy/grafana/{name}")));
    }
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let text = read(&file);
        assert!(compose.contains(&format!("./{file}:")), "Compose does not mount {file}");
        if file.ends_with(".json") {
            serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
        let named = metrics_in(&text);
        assert!(named.len() >= 4, "{file}: {named:?}");
        for name in named {
            assert!(counted.contains(&format!("\"{name}\"")), "{name} is in {file} and nowhere else");
        }
    }
}

/// What happens to the alerts within half an hour.
const ALERTS: &str = r#"
rule_files: [RULES]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - { series: 'tidegate_vod_starts_total{manifest="hls",outcome="started"}', values: "0+10x30" }
      - { series: 'tidegate_vod_starts_total{manifest="hls",outcome="unavailable"}', values: "0+1x30" }
      - { series: 'tidegate_vod_cmcd_requests_total{playback="smooth"}', values: "0+100x30" }
      - { series: 'tidegate_vod_cmcd_requests_total{playback="stalled"}', values: "0+5x30" }
      - { series: 'tidegate_vod_subscription_checks_total{outcome="grace"}', values: "0+1x30" }
      - { series: 'tidegate_positions_backlog', values: "0+500x30" }
      - { series: 'tidegate_vod_dropped_rows_total', values: "0+1x30" }
    promql_expr_test:
      - expr: count(ALERTS{alertstate="firing"})
        eval_time: 30m
        exp_samples: [{ labels: "{}", value: 5 }]
  - interval: 1m
    input_series:
      - { series: 'tidegate_vod_starts_total{manifest="hls",outcome="started"}', values: "0+10x30" }
      - { series: 'tidegate_vod_starts_total{manifest="hls",outcome="unavailable"}', values: "0x30" }
      - { series: 'tidegate_vod_cmcd_requests_total{playback="smooth"}', values: "0x30" }
      - { series: 'tidegate_vod_cmcd_requests_total{playback="stalled"}', values: "0x30" }
      - { series: 'tidegate_vod_subscription_checks_total{outcome="grace"}', values: "0x30" }
      - { series: 'tidegate_positions_backlog', values: "5000x30" }
      - { series: 'tidegate_vod_dropped_rows_total', values: "0x30" }
    promql_expr_test:
      - { expr: 'count(ALERTS{alertstate="firing"})', eval_time: 30m, exp_samples: [] }
"#;

#[test]
fn the_alerts_fire_when_films_are_in_trouble_and_only_then() {
    let Some(promtool) = tools::find("promtool") else { return };
    let folder = TempFolder::new("alerts");
    let tests = folder.path().join("tests.yml");
    let rules = serde_json::to_string(&root().join("deploy/alerts.yml")).expect("a path is text");
    std::fs::write(&tests, ALERTS.replace("RULES", &rules)).expect("the file can be written");
    let config = ["check", "config", "--syntax-only"].map(str::to_owned).to_vec();
    let config = [config, vec![root().join("deploy/prometheus.yml").display().to_string()]].concat();
    let rules = ["test".to_owned(), "rules".to_owned(), tests.display().to_string()].to_vec();
    for arguments in [config, rules] {
        let ended = std::process::Command::new(&promtool).args(&arguments).output().expect("it runs");
        let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(ended.status.success(), "{arguments:?}: {said}");
    }
    let scraped = read("deploy/prometheus.yml");
    assert!(scraped.contains("rule_files: [alerts.yml]"), "{scraped}");
}
