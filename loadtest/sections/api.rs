//! CPU of an answer that the process makes itself: what a small GET of the API costs beside the module's own work.

use std::rc::Rc;

use anyhow::Result;

use crate::load::{Group, Request, Tally};
use crate::report::{Budget, Row};
use crate::sections::{Bench, Section, cpu};
use crate::servers::{HEALTH, Target};

pub fn load(target: &Target) -> Vec<Group> {
    let text = format!(
        "GET /health HTTP/1.1\r\nHost: media.example\r\nUser-Agent: loadtest\r\nAccept: */*\r\n\
         Authorization: Bearer {}\r\n\r\n",
        target.token()
    );
    let request = Request { text: text.into_bytes(), status: b"200", length: HEALTH.len() as u64 };
    cpu::closed(target, 64, Rc::new([request]))
}

pub fn measure(section: &Section, bench: &Bench, tally: &mut Tally) -> Result<Vec<Row>> {
    let rounds = cpu::rounds(section, bench, tally, |cpu, done| cpu * 1e6 / done.requests as f64)?;
    Ok(vec![
        Row::new("CPU per small GET of the API", "µs", &rounds, Budget::Value(30.0)),
        Row::new("the same, to nginx's `return 200`", "µs", &rounds, Budget::Ratio(4.0)),
    ])
}
