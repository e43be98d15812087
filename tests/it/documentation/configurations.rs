//! Each configuration that a page shows is loaded by the program.

use std::path::Path;
use std::process::{Command, Output};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use serde_yaml::Value;

use super::blocks::{self, Block};
use crate::support::tools::TempFolder;

/// What fragments are put into.
const BASE: &str = include_str!("base.yaml");
/// As long as any secret has to be.
const SECRET: &str = "a-secret-of-a-document-that-is-long-enough-for-all";
/// Variables that are no secrets.
const VARIABLES: &[(&str, &str)] = &[
    ("S3_ENDPOINT_URL", "http://127.0.0.1:9000"),
    ("REDIS_URL", "redis://127.0.0.1:6379"),
    ("DATABASE_URL", "postgres://tidegate@127.0.0.1/tidegate"),
    ("KAFKA_BROKERS", "127.0.0.1:9092"),
    // It has a form.
    ("TELEGRAM_TOKEN", "1:a-token-of-a-documents-bot"),
];

#[test]
fn every_configuration_of_the_documents_is_loaded() {
    let folder = TempFolder::new("documents");
    certificates(folder.path());
    let (mut count, mut wrong) = (0, Vec::new());
    for block in blocks::all().iter().filter(|block| block.language == "yaml" && block.mark("checked as").is_none()) {
        count += 1;
        let ended = check(&whole(block), folder.path());
        let said = String::from_utf8_lossy(&ended.stderr);
        let is_good = match block.feature() {
            None => ended.status.success(),
            Some(feature) => said.contains(&format!("this Tidegate is built without `{feature}`")),
        };
        if !is_good {
            wrong.push(format!("{block}: {said}"));
        }
    }
    assert!(count > 50, "only {count} configurations are found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_fragment_with_a_key_that_is_unknown_is_found() {
    let folder = TempFolder::new("documents");
    let text = "<!-- fragment -->\n```yaml\nServer: { Treads: 4 }\n```\n";
    let blocks = blocks::of_page("docs/a.md", text);
    let ended = check(&whole(&blocks[0]), folder.path());
    assert!(!ended.status.success() && String::from_utf8_lossy(&ended.stderr).contains("Treads"), "{ended:?}");
}

/// The file that a block stands for.
pub fn whole(block: &Block) -> String {
    // In examples `…` stands for further keys.
    let text = block.text.replace(", …", "");
    if !block.is_fragment() {
        return text;
    }
    let parse = |text: &str| -> Value { serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{block}: {error}")) };
    let mut file = parse(BASE);
    merge(&mut file, parse(&text));
    serde_yaml::to_string(&file).expect("it is YAML")
}

/// Puts `piece` into `file`: maps are joined, everything else is replaced.
fn merge(file: &mut Value, piece: Value) {
    match (file, piece) {
        (Value::Mapping(file), Value::Mapping(piece)) => {
            for (key, value) in piece {
                match file.get_mut(&key) {
                    Some(there) => merge(there, value),
                    None => drop(file.insert(key, value)),
                }
            }
        }
        (file, piece) => *file = piece,
    }
}

/// Runs `tidegate check` on it, in `folder`, where all that it names by `env:` and `file:` is there.
fn check(text: &str, folder: &Path) -> Output {
    let config = folder.join("tidegate.yaml");
    let here = format!("file:{}", folder.join("secrets").display());
    std::fs::write(&config, text.replace("file:/", &format!("{here}/"))).expect("the file can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("check").arg(&config).current_dir(folder).env_clear();
    // Taken without being named, by pieces with `Share`.
    command.env("BEARER_TOKEN", SECRET);
    for name in named(text, "env:", |letter| letter.is_ascii_alphanumeric() || letter == '_') {
        let value = VARIABLES.iter().find(|(known, _)| *known == name).map_or(SECRET, |(_, value)| value);
        command.env(name, value);
    }
    for name in named(text, "file:/", |letter| !letter.is_whitespace() && !"\"'},]".contains(letter)) {
        let file = folder.join("secrets").join(name);
        std::fs::create_dir_all(file.parent().expect("it is below the folder")).expect("it can be made");
        std::fs::write(file, SECRET).expect("the file can be written");
    }
    command.output().expect("it runs")
}

/// What stands behind `prefix`, wherever it stands.
fn named<'a>(text: &'a str, prefix: &str, is_part: impl Fn(char) -> bool) -> Vec<&'a str> {
    let names = text.split(prefix).skip(1).map(|rest| &rest[..rest.find(|it| !is_part(it)).unwrap_or(rest.len())]);
    names.filter(|name| !name.is_empty()).collect()
}

/// The files of TLS that the pages name, in `certs/`.
fn certificates(folder: &Path) {
    let folder = folder.join("certs");
    std::fs::create_dir_all(&folder).expect("it can be made");
    let key = KeyPair::generate().expect("a key");
    let mut server = CertificateParams::new(vec!["media.example".to_owned()]).expect("a name");
    server.not_after = date_time_ymd(2124, 1, 1);
    let certificate = server.self_signed(&key).expect("a certificate");
    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let clients = authority.self_signed(&key).expect("a certificate");
    let revoked = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2124, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let files = [
        ("server.key", key.serialize_pem()),
        ("server.pem", certificate.pem()),
        ("clients.pem", clients.pem()),
        ("revoked.pem", revoked.signed_by(&Issuer::new(authority, key)).expect("a list").pem().expect("PEM")),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("the file can be written");
    }
}
