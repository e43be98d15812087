//! Command `tidegate explain`: tells what a configuration, or a running proxy, would do with a request, and why.

use std::fmt::Write as _;
use std::io::{stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use http::{HeaderName, HeaderValue, Method};

use super::{bad_arguments, block_on, refuse, say};
use crate::app::StartError;
use crate::app::explain::idle_runtime;
use crate::config;
use crate::proxy::explain::{
    DestinationExplanation, HandlerExplanation, PassedRoute, RequestExplanation, RouteExplanation, explain,
    request_head,
};
use object_engine::cache::CachedObjectState;
use server_kit::api::explain::parse_header;

/// The request, and the configuration that it meets.
#[derive(clap::Args, Debug)]
pub struct ExplainArgs {
    /// The method.
    pub method: Method,
    /// The URL: `https://edge.example.com/stream/a.flac`, or a path alone.
    pub url: String,
    /// A header of the request, as curl takes it.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The configuration file.
    #[arg(short, long, default_value = super::DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Write the explanation as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Explains the request; returns the exit code.
pub fn run(args: &ExplainArgs) -> ExitCode {
    let (head, scheme) = match request_head(&args.method, &args.url, args.headers.iter().cloned()) {
        Ok(request) => request,
        Err(message) => {
            return bad_arguments("explain", &message);
        }
    };
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(report) => return refuse(&report),
    };
    let told = block_on(async {
        let runtime = idle_runtime(&settings, None).await?;
        Ok::<_, StartError>(explain(&runtime, None, head, &scheme).await)
    });
    match told {
        Ok(told) if args.json => match serde_json::to_string_pretty(&told) {
            Ok(text) => say(&mut stdout(), &text),
            Err(error) => say(&mut stderr(), &format!("tidegate explain: {error}")),
        },
        Ok(told) => say(&mut stdout(), text(&told).trim_end()),
        Err(message) => {
            say(&mut stderr(), &format!("tidegate explain: {message}"));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The explanation for people.
fn text(told: &RequestExplanation) -> String {
    let mut out = format!("{} {}\n", told.method, told.path);
    let line = |out: &mut String, name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<16} {value}");
    };
    if let Some(refusal) = &told.refusal {
        line(&mut out, "answer", &format!("{}: {}", refusal.status, refusal.reason));
    }
    if let Some(answered_by) = &told.answered_by {
        line(&mut out, "answered by", answered_by);
    }
    if let Some(route) = &told.route {
        tell_route(&mut out, route, line);
    }
    tell_passed(&mut out, "also matching, but later", &told.preceded);
    tell_passed(&mut out, "not matching, but nearly", &told.near_misses);
    out
}

fn tell_route(out: &mut String, route: &RouteExplanation, line: impl Fn(&mut String, &str, &str)) {
    line(out, "route", &route.id);
    if let Some(pattern) = &route.pattern {
        line(out, "path", pattern);
    }
    for (name, value) in &route.captures {
        line(out, "", &format!("{name} = {value}"));
    }
    line(out, "authorization", &route.authorization);
    for (name, value) in &route.rules {
        line(out, name, value);
    }
    match &route.handler {
        None => {}
        Some(HandlerExplanation::Object { store, bucket, key, cache, kept, destinations }) => {
            line(out, "store", store);
            line(out, "bucket", bucket);
            line(out, "key", key);
            line(out, "cache", cache.as_deref().unwrap_or("none: it is streamed"));
            if let Some(kept) = kept {
                let CachedObjectState { freshness, age, size, kept_slices, slices } = kept;
                line(out, "", &format!("{freshness}, {age} s old, {kept_slices} of {slices} slices of {size} bytes"));
            }
            tell_destinations(out, destinations, line);
        }
        Some(HandlerExplanation::Track { track }) => {
            line(out, "track", track);
            line(out, "store", "as the catalogue says");
        }
        Some(HandlerExplanation::Cluster { cluster, load_balancing, transforms, request, destinations }) => {
            line(out, "cluster", &format!("{cluster}, {load_balancing}"));
            for transform in transforms {
                line(out, "transform", transform.name);
                transform.changes.iter().for_each(|change| line(out, "", change));
            }
            for (at, sent) in request.iter().enumerate() {
                line(out, if at == 0 { "sent" } else { "" }, sent);
            }
            tell_destinations(out, destinations, line);
        }
    }
}

fn tell_destinations(
    out: &mut String,
    destinations: &[DestinationExplanation],
    line: impl Fn(&mut String, &str, &str),
) {
    for destination in destinations {
        line(out, "destination", &format!("{} {}", destination.id, destination.address));
    }
}

fn tell_passed(out: &mut String, title: &str, routes: &[PassedRoute]) {
    if routes.is_empty() {
        return;
    }
    let _ = writeln!(out, "{title}:");
    for PassedRoute { id, because } in routes {
        let _ = writeln!(out, "  {id:<16} {}", because.join("; "));
    }
}
