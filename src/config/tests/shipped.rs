//! Files of the repository: those that are shipped, and those that are wrong, each with its report.

use std::fs;
use std::path::Path;

use s3::settings::StoreEndpoint;

use super::{conf, good, has_leak, load_file, read, route};
use crate::config::{SettingsSource, reference, schema};
use crate::proxy::settings::{AuthorizationSettings, HandlerSettings};

#[test]
#[cfg_attr(not(feature = "kafka"), ignore = "its reports are those of a whole build")]
fn every_wrong_file_gets_its_whole_report() {
    let mut files: Vec<_> =
        fs::read_dir(conf("bad")).expect("conf/bad").map(|entry| entry.expect("entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    assert!(files.len() >= 20, "only {} wrong files", files.len());
    let mut wrong = String::new();
    for path in files {
        let report = load_file(&path).map(|_| ()).expect_err(&path.display().to_string());
        let report = format!("{report}\n");
        assert!(!has_leak(&report), "{report}");
        let expected = path.with_extension("expected");
        if fs::read_to_string(&expected).unwrap_or_default() != report {
            wrong.push_str(&report);
        }
    }
    // A report that is better now: `tidegate check conf/bad/NN-name.yaml 2> conf/bad/NN-name.expected`.
    assert!(wrong.is_empty(), "reports that differ from their .expected:\n{wrong}");
}

#[test]
fn every_shipped_file_is_good() {
    for name in ["tidegate.yaml", "minimal.yaml", "yarp.json"] {
        let settings = load_file(&conf(name)).unwrap_or_else(|report| panic!("{report}"));
        assert!(settings.routes.entries().count() > 0, "{name}");
        let masked = format!("{settings:?}");
        let secrets = ["canary-access", "canary-secret", "canary-jwt-secret", "canary-admin", "canary-bearer"];
        assert!(!secrets.iter().any(|secret| masked.contains(secret)), "{name}: {masked}");
    }
}

#[test]
fn the_classes_of_the_shipped_file_have_the_limits_of_the_document() {
    let file: serde_yaml::Value = serde_yaml::from_str(&read(&conf("tidegate.yaml"))).expect("YAML");
    for (class, permits) in [("standard", 100), ("elevated", 200), ("strict", 10)] {
        let limit = &file["Policies"]["RateLimiter"][class]["FixedWindow"];
        assert_eq!((limit["PermitLimit"].as_u64(), limit["Window"].as_str()), (Some(permits), Some("1m")), "{class}");
    }
}

#[test]
fn every_shipped_yaml_tells_editors_its_schema() {
    for folder in ["", "bad"] {
        for entry in fs::read_dir(conf(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "yaml") {
                assert!(read(&path).starts_with("# yaml-language-server: $schema="), "{}", path.display());
            }
        }
    }
}

#[test]
fn the_shipped_schema_is_that_of_the_program() {
    let made = format!("{:#}\n", schema());
    assert!(read(&conf("schema.json")) == made, "renew it: tidegate schema > conf/schema.json");
}

#[test]
fn the_reference_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = read(&path);
    let (_, rest) = text.split_once("<!-- reference -->\n\n").expect("the reference begins");
    let (tables, _) = rest.split_once("<!-- /reference -->").expect("the reference ends");
    assert!(tables == reference(), "renew it: tidegate schema --reference, between the two marks");
}

#[test]
fn the_configuration_of_yarp_is_an_object_route_behind_a_token() {
    let settings = load_file(&conf("yarp.json")).expect("a good file");
    let route = route(&settings, "/stream/a/b.mp3");
    let HandlerSettings::Object(object) = &route.handler else { panic!("{route:?}") };
    assert_eq!((&*object.store.name, &*object.bucket), ("minio", "audio"));
    assert_eq!(object.cluster.as_ref().map(|cluster| &*cluster.id), Some("minio"));
    assert!(matches!(&route.authorization, AuthorizationSettings::Policy { claims, .. } if claims.rules.is_empty()));
    assert_eq!(
        settings.stores[0].endpoint,
        StoreEndpoint::Remote("http://canary-endpoint:9000".parse().expect("a URL"))
    );
}

#[test]
fn what_the_shipped_file_calls_a_default_is_one() {
    let whole: serde_yaml::Value = serde_yaml::from_str(&read(&conf("tidegate.yaml"))).expect("YAML");
    let resolved = |file: &serde_yaml::Value| {
        let mut settings = good(&serde_yaml::to_string(file).expect("YAML"));
        // That the text is another one is what this test makes.
        settings.source = SettingsSource::default();
        format!("{settings:?}")
    };
    let expected = resolved(&whole);
    let without = |path: &str| {
        let (mut file, mut keys) = (whole.clone(), path.split('.').collect::<Vec<_>>());
        let last = keys.pop().expect("a path has a key");
        let section = keys.iter().fold(&mut file, |section, key| &mut section[*key]);
        assert!(section.as_mapping_mut().expect("a section").remove(last).is_some(), "{path} is not in the file");
        resolved(&file)
    };
    let minio = "ReverseProxy.Clusters.minio.HealthCheck";
    let paths = [
        ("Server", &["HeaderTimeout", "WriteTimeout", "BodyTimeout", "KeepAliveTimeout", "ShutdownDelay"][..]),
        ("Server", &["ShutdownGrace", "MaxConnections", "UpgradeTimeout"]),
        ("ObjectStores.minio", &["PresignExpiry"]),
        ("Auth.Jwt", &["Leeway"]),
        ("Policies.Timeout.stream", &["Connect", "FirstByte", "Idle"]),
        ("Policies.OutputCache.audio", &["Ttl", "HonourCacheControl", "StaleWhileRevalidate", "StaleIfError"]),
        ("Policies.OutputCache.audio", &["NegativeTtl"]),
        ("Cache", &["SliceSize", "Memory"]),
        (&*format!("{minio}.Active"), &["Interval", "Timeout", "Policy", "Path"]),
        (&*format!("{minio}.Passive"), &["Enabled", "Policy", "ReactivationPeriod"]),
        (minio, &["AvailableDestinationsPolicy"]),
        ("Events", &["FromStreams"]),
        ("Events.Outbox", &["Size"]),
        ("Positions", &["Ttl", "MinResumePercent", "MaxResumePercent", "MinDuration", "MaxItemsPerUser"]),
        ("Playback", &["ReportInterval", "PausedTimeout", "MaxListeners", "MaxListenersPerUser", "PublishEvents"]),
        ("Playback", &["MaxChannelsPerUser", "MaxTrackSpeedsPerUser"]),
        ("Lyrics", &["CacheFor", "MissCacheFor", "MaxCacheSize"]),
        ("Radio", &["AllowedNetworks", "MaxStations", "MaxUpstreams", "MaxListeners", "MaxListenersPerUser"]),
        ("Radio", &["Linger", "OfflineTimeout", "TicketTtl", "PublishEvents", "EventsTopic"]),
        ("Channels", &["Names", "VipHeadStart", "AdminHeadStart", "MaxItems", "MaxItemsPerUser", "MaxSize"]),
        ("Channels", &["MaxSizePerUser", "TypicalDuration", "ClaimLease", "Crossfade", "IdleTimeout"]),
        ("Channels", &["ScheduledBy"]),
        ("Playlists", &["MaxPlaylistsPerUser", "MaxItems", "MaxSize"]),
        ("Recognition", &["Index", "ClipLength", "MaxHistory"]),
        ("Schedules", &["MaxSchedulesPerUser", "MinInterval", "MisfireGrace", "Lease", "HistoryFor"]),
        ("Backup", &["Prefix", "KeepFor", "KeepAtLeast", "Lease", "WorkFolder"]),
        ("Share", &["MaxSessions", "Buffer", "Timeout", "AllowLocalhost", "Compatibility"]),
        ("Share.Recording", &["MaxDuration", "MaxSize"]),
        ("Telemetry", &["LogLevel"]),
        ("Telemetry.AccessLog", &["Format"]),
    ];
    let paths = paths.iter().flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")));
    let other: Vec<_> = paths.filter(|path| without(path) != expected).collect();
    assert!(other.is_empty(), "conf/tidegate.yaml has other values than the defaults: {other:?}");
}
