//! The check of a film's manifest: what a playlist of a whole day costs before it is kept.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::load::Tally;
use crate::report::{Budget, Row, percentile};
use crate::sections::{Bench, Section};
use primitives::clock::monotonic_now;
use vod::manifest::{FilmFolder, ManifestRules, check};
use vod::session::ManifestType;

const SEGMENTS: usize = 10_000;
const CHECKS: usize = 200;

pub fn measure(_section: &Section, _bench: &Bench, _tally: &mut Tally) -> Result<Vec<Row>> {
    let mut plain = String::from("#EXTM3U\n#EXT-X-TARGETDURATION:6\n");
    let mut absolute = plain.clone();
    let mut dash = String::from("<MPD><Period><AdaptationSet><Representation id=\"v\"><SegmentList>");
    for number in 0..SEGMENTS {
        write!(plain, "#EXTINF:6.006,\nchunk_{number:05}.ts\n")?;
        write!(absolute, "#EXTINF:6.006,\nhttp://minio:9000/vod/movies/b1/chunk_{number:05}.ts\n")?;
        write!(dash, "<SegmentURL media=\"chunk_{number:05}.m4s\"/>")?;
    }
    dash.push_str("</SegmentList></Representation></AdaptationSet></Period></MPD>");
    let row = |name: &str, kind, text: &str| -> Result<Row> {
        Ok(Row::alone(format!("{name} of {SEGMENTS} segments p50, ms"), median(kind, text)?, Budget::Value(5.0)))
    };
    Ok(vec![
        row("HLS playlist", ManifestType::Hls, &plain)?,
        row("HLS playlist with absolute URIs", ManifestType::Hls, &absolute)?,
        row("DASH manifest", ManifestType::Dash, &dash)?,
    ])
}

/// The time of one check in milliseconds.
fn median(kind: ManifestType, text: &str) -> Result<f64> {
    let rules = ManifestRules {
        store_hosts: vec!["minio:9000".to_owned()],
        allowed_hosts: Vec::new(),
        bucket: "vod".to_owned(),
    };
    let folder = FilmFolder { rules: &rules, movie: "b1", prefix: "movies/b1/", key_prefix: None };
    let mut times = Vec::<Duration>::with_capacity(CHECKS);
    for _ in 0..CHECKS {
        let began = monotonic_now();
        let checked = check(kind, text.as_bytes(), "index", &folder);
        times.push(began.elapsed());
        ensure!(checked.is_ok(), "the manifest was refused: {checked:?}");
    }
    Ok(percentile(&mut times, 0.5))
}
