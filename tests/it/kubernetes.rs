//! The Helm chart and the manifests that are made of it: Kubernetes' own schemas, the configuration in them, and times that must fit each other.

use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;
use serde_yaml::Value;

use crate::support::tools::{self, TempFolder};

/// Secrets that the manifests take from the Secret `tidegate`.
const SECRETS: &[&str] = &["S3_ACCESS_KEY", "S3_SECRET_KEY", "JWT_SECRET_KEY", "ADMIN_TOKEN"];
/// The oldest version that the chart allows, and a new one.
const VERSIONS: &[&str] = &["1.27.0", "1.37.0"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The documents of a file of manifests.
fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text).map(Value::deserialize);
    documents.map(|it: Result<Value, _>| it.expect("YAML")).filter(|it| !it.is_null()).collect()
}

/// The plain manifests.
fn manifests() -> Vec<Value> {
    let read =
        |name: &str| std::fs::read_to_string(root().join("deploy/kubernetes").join(name)).expect("it is shipped");
    ["tidegate.yaml", "servicemonitor.yaml"].iter().flat_map(|name| documents(&read(name))).collect()
}

/// The manifest of a kind.
fn of_kind<'a>(manifests: &'a [Value], kind: &str) -> &'a Value {
    manifests.iter().find(|it| it["kind"].as_str() == Some(kind)).unwrap_or_else(|| panic!("there is no {kind}"))
}

/// What the chart makes with these arguments.
pub fn render(helm: &std::path::Path, arguments: &[PathBuf]) -> String {
    let mut command = Command::new(helm);
    // A Helm that was built from source does not know the cluster's version.
    command.args(["template", "tidegate", "deploy/helm/tidegate", "--kube-version", "1.30.0"]).args(arguments);
    let ended = command.current_dir(root()).output().expect("it runs");
    assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("UTF-8")
}

/// Has Tidegate check the configuration in manifests.
pub fn check_configuration(text: &str, folder: &TempFolder) {
    let manifests = documents(text);
    let config = of_kind(&manifests, "ConfigMap")["data"]["tidegate.yaml"].as_str().expect("the file").to_owned();
    assert!(config.ends_with("\n...\n"), "the end of the file is not marked: {config}");
    let file = folder.path().join("tidegate.yaml");
    std::fs::write(&file, &config).expect("the file can be written");
    let mut check = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    check.arg("check").arg(file).current_dir(folder.path()).env_clear();
    let check = check.envs(SECRETS.iter().map(|name| (name, "a-secret-of-a-test-that-is-long-enough-for-all")));
    let ended = check.output().expect("it runs");
    assert!(ended.status.success(), "{config}\n{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
#[ignore = "its tools take minutes to build: `make release` runs it"]
fn the_plain_manifests_are_those_of_the_chart() {
    if tools::find("helm").is_none() {
        return;
    }
    let folder = TempFolder::new("manifests");
    let made = Command::new(root().join("scripts/renew-kubernetes.sh")).arg(folder.path()).output().expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for name in ["tidegate.yaml", "servicemonitor.yaml"] {
        let read = |folder: PathBuf| std::fs::read_to_string(folder.join(name)).expect("it is readable");
        let is_same = read(root().join("deploy/kubernetes")) == read(folder.path().to_owned());
        assert!(is_same, "renew it: scripts/renew-kubernetes.sh ({name})");
    }
}

#[test]
fn the_configuration_in_the_manifests_is_good_and_takes_its_secrets_from_the_secret() {
    let folder = TempFolder::new("configmap");
    let text = std::fs::read_to_string(root().join("deploy/kubernetes/tidegate.yaml")).expect("it is shipped");
    check_configuration(&text, &folder);
    let config = of_kind(&manifests(), "ConfigMap")["data"]["tidegate.yaml"].as_str().expect("the file").to_owned();
    for name in SECRETS {
        assert!(
            config.contains(&format!("env:{name}")) && text.lines().nth(1).is_some_and(|it| it.contains(name)),
            "{name}"
        );
    }
    let documents = manifests();
    let container = &of_kind(&documents, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["envFrom"][0]["secretRef"]["name"].as_str(), Some("tidegate"));
}

#[test]
fn pods_are_probed_and_stopped_by_the_times_and_ports_of_their_configuration() {
    let manifests = manifests();
    let config = of_kind(&manifests, "ConfigMap")["data"]["tidegate.yaml"].as_str().expect("the file");
    let config: Value = serde_yaml::from_str(config).expect("YAML");
    let port = |address: &Value| -> u64 {
        address.as_str().and_then(|it| it.rsplit_once(':')).and_then(|(_, port)| port.parse().ok()).expect("a port")
    };
    let seconds =
        |time: &Value| time.as_str().and_then(|it| it.strip_suffix('s')?.parse::<u64>().ok()).expect("seconds");
    let pod = &of_kind(&manifests, "Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let ports = |name: &str| {
        let all = container["ports"].as_sequence().expect("ports");
        all.iter().find(|it| it["name"].as_str() == Some(name)).and_then(|it| it["containerPort"].as_u64())
    };
    assert_eq!(ports("http"), Some(port(&config["Server"]["Listeners"][0]["Address"])));
    assert_eq!(ports("admin"), Some(port(&config["Server"]["Admin"]["Address"])));
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let asked = &container[probe]["httpGet"];
        assert_eq!((asked["path"].as_str(), asked["port"].as_str()), (Some(path), Some("admin")), "{probe}");
    }
    let needed = seconds(&config["Server"]["ShutdownDelay"]) + seconds(&config["Server"]["ShutdownGrace"]);
    let given = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    assert!(given > needed, "{given} s are given, {needed} s are needed");
    // What readiness takes to be seen, before connections are refused.
    let readiness = &container["readinessProbe"];
    let seen = readiness["periodSeconds"].as_u64().zip(readiness["failureThreshold"].as_u64()).map(|(a, b)| a * b);
    assert!(seen.is_some_and(|seen| seen <= seconds(&config["Server"]["ShutdownDelay"])), "{seen:?}");
}

#[test]
fn what_selects_pods_finds_them_and_they_run_without_rights() {
    let manifests = manifests();
    let deployment = of_kind(&manifests, "Deployment");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let is_selected = |selector: &Value, labels: &Value| {
        let selector = selector.as_mapping().expect("a selector");
        selector.iter().all(|(name, value)| labels.get(name) == Some(value))
    };
    let services: Vec<&Value> = manifests.iter().filter(|it| it["kind"].as_str() == Some("Service")).collect();
    assert_eq!(services.len(), 2);
    for service in &services {
        assert!(is_selected(&service["spec"]["selector"], labels), "{service:?}");
    }
    assert!(is_selected(&of_kind(&manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels));
    let target = &of_kind(&manifests, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"];
    assert_eq!(target["name"], deployment["metadata"]["name"]);
    let monitor = &of_kind(&manifests, "ServiceMonitor")["spec"];
    let scraped = |service: &&&Value| is_selected(&monitor["selector"]["matchLabels"], &service["metadata"]["labels"]);
    let scraped: Vec<_> = services.iter().filter(scraped).collect();
    let [service] = scraped.as_slice() else { panic!("{scraped:?}") };
    assert_eq!(service["spec"]["ports"][0]["name"], monitor["endpoints"][0]["port"]);
    let security = &deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(security["allowPrivilegeEscalation"].as_bool(), Some(false));
    let user = &deployment["spec"]["template"]["spec"]["securityContext"]["runAsUser"];
    let dockerfile = std::fs::read_to_string(root().join("Dockerfile")).expect("it is there");
    assert!(user.as_u64().is_some_and(|user| dockerfile.contains(&user.to_string())), "{user:?} is not the image's");
}

#[test]
#[ignore = "its tools take minutes to build: `make release` runs it"]
fn everything_that_the_chart_can_make_fits_kubernetes_schemas() {
    let (Some(helm), Some(validate)) = (tools::find("helm"), tools::find("kubernetes-validate")) else { return };
    let everything = "serviceMonitor.enabled=true,ingress.enabled=true,ingress.className=nginx,ingress.tlsSecret=media,\
                      cache.sizeLimit=5Gi,autoscaling.enabled=false,state.existingClaim=outbox,podAnnotations.a=b,podLabels.c=d,\
                      service.annotations.e=f,nodeSelector.g=h,extraEnv[0].name=A,extraEnv[0].value=b,imagePullSecrets[0].name=pull,\
                      tolerations[0].operator=Exists,extraVolumes[0].name=v,extraVolumes[0].emptyDir.medium=Memory,\
                      extraVolumeMounts[0].name=v,extraVolumeMounts[0].mountPath=/v";
    let nothing = "autoscaling.enabled=false,podDisruptionBudget.enabled=false";
    let folder = TempFolder::new("schemas");
    for values in ["replicas=3", everything, nothing] {
        let text = render(&helm, &["--set".into(), values.into()]);
        check_configuration(&text, &folder);
        let file = folder.path().join("manifests.yaml");
        std::fs::write(&file, text).expect("the file can be written");
        for version in VERSIONS {
            let mut command = Command::new(&validate);
            let ended = command.args(["--strict", "--quiet", "-k", version]).arg(&file).output().expect("it runs");
            let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
            // The kinds of the Prometheus operator are not among Kubernetes' own.
            let wrong = said.lines().filter(|line| !line.contains("ServiceMonitor")).collect::<Vec<_>>();
            assert!(ended.status.success() && wrong.is_empty(), "{values}, {version}: {wrong:#?}");
        }
    }
}
