//! Logging: JSON lines on standard error, Pingora's own lines among them. Access lines may go elsewhere, and look otherwise.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt as form, reload};

use super::access_log::line_template::TemplateLayer;
use super::access_log::{AccessLogOpenError, AccessLogQueue};
use super::settings::{AccessLogFormat, AccessLogOutput, LogLevel, TelemetrySettings};

/// Target of access log lines, which distinguishes them from the rest.
pub const ACCESS: &str = "access";

/// Targets of the disk cache's library.
const DISK_CACHE: [&str; 4] = ["foyer", "foyer_storage", "foyer_memory", "foyer_common"];
/// Time in which its errors are counted before they are logged.
const GATHER_PERIOD: Duration = Duration::from_secs(2);
/// Longest part of its first error that is logged, in bytes.
const MAX_ERROR_BYTES: usize = 300;

/// Logs the errors of the disk cache's library: one line with their number in place of one with a backtrace for each,
/// of which a damaged folder makes thousands.
#[derive(Default)]
struct DiskErrorLayer {
    gathered: Arc<Mutex<PendingDiskErrors>>,
}

#[derive(Default)]
struct PendingDiskErrors {
    count: u64,
    first: String,
}

impl<S: Subscriber> Layer<S> for DiskErrorLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::WARN {
            return;
        }
        let mut gathered = self.gathered.lock();
        gathered.count += 1;
        if gathered.count > 1 {
            return;
        }
        let mut first = FirstLineVisitor::default();
        event.record(&mut first);
        gathered.first = first.0;
        let gathered = Arc::clone(&self.gathered);
        // A short-lived thread, since the library logs from threads of its own; if it cannot start, nothing is logged.
        let _ = std::thread::Builder::new().name("disk-errors".to_owned()).spawn(move || {
            std::thread::sleep(GATHER_PERIOD);
            let PendingDiskErrors { count, first } = std::mem::take(&mut *gathered.lock());
            tracing::error!(count, "the disk cache is damaged or cannot be used ({count} errors): {first}");
        });
    }
}

/// The first line of an event's message and error.
#[derive(Default)]
struct FirstLineVisitor(String);

impl Visit for FirstLineVisitor {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let line = text.lines().next().unwrap_or_default();
        if !self.0.is_empty() {
            self.0.push_str(": ");
        }
        self.0.push_str(&line[..line.floor_char_boundary(MAX_ERROR_BYTES)]);
    }
}

/// Filter of the log's lines, whose level a reload may change. Clones are the same filter; the default one is of no log.
#[derive(Clone, Default)]
pub struct LogFilter {
    handle: Option<reload::Handle<EnvFilter, Registry>>,
}

impl LogFilter {
    /// Puts the level of `settings` in force; what the access log is stays as it was at the start.
    pub fn set_level(&self, settings: &TelemetrySettings) {
        let Some(handle) = &self.handle else { return };
        if let Err(error) = handle.reload(filter(settings)) {
            tracing::error!(%error, "the level of the log cannot be changed");
        }
    }
}

/// Returns the filter of `settings`.
fn filter(settings: &TelemetrySettings) -> EnvFilter {
    let level = match settings.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // Pingora prints whole upstream requests, signatures included, below info: never let those through. The HTTP/2 library
    // warns of frames that any client can send, a line for each. Amazon's library logs answers as they came, keys included.
    let mut directives = format!(
        "{level},pingora=warn,pingora_core=warn,pingora_proxy=off,rustls=warn,hyper=warn,h2=error,s3s=off,aws_config=off,aws_runtime=off,aws_sdk=off,aws_smithy=off,foyer=off,foyer_storage=off,foyer_memory=off,foyer_common=off"
    );
    directives.push_str(if has_own_lines(settings) { ",access=off" } else { ",access=info" });
    EnvFilter::new(directives)
}

/// Returns true where access lines are not among the others.
fn has_own_lines(settings: &TelemetrySettings) -> bool {
    let is_like_others = matches!(settings.access_format, AccessLogFormat::Json | AccessLogFormat::Text);
    !is_like_others || settings.access_output != AccessLogOutput::Stderr
}

/// What logging consists of while the process runs.
#[derive(Clone, Default)]
pub struct StartedLog {
    /// Filter of the lines on standard error.
    pub filter: LogFilter,
    /// The access log, where it is not on standard error.
    pub access_log: Option<AccessLogQueue>,
}

/// Starts logging for the whole process; a second call changes nothing. Fails where the file of the access log cannot be
/// opened.
pub fn start(settings: &TelemetrySettings) -> Result<StartedLog, AccessLogOpenError> {
    let access_log = AccessLogQueue::open(&settings.access_output)?;
    let (filter, handle) = reload::Layer::new(filter(settings));
    let access = Targets::new().with_target(ACCESS, LevelFilter::INFO);
    let own_lines = has_own_lines(settings) && settings.access_format != AccessLogFormat::Off;
    let access_lines = own_lines.then(|| match &access_log {
        Some(queue) => access_lines(&settings.access_format, queue.clone()),
        None => access_lines(&settings.access_format, std::io::stderr),
    });
    let disk = DISK_CACHE.map(|target| (target, LevelFilter::WARN));
    let started = tracing_subscriber::registry()
        .with(lines(settings.access_format == AccessLogFormat::Text, std::io::stderr).with_filter(filter))
        .with(access_lines.map(|lines| lines.with_filter(access)))
        .with(DiskErrorLayer::default().with_filter(Targets::new().with_targets(disk)))
        .try_init();
    if let Err(already) = started {
        tracing::debug!(reason = %already, "logging is already started");
    }
    Ok(StartedLog { filter: LogFilter { handle: Some(handle) }, access_log })
}

/// Lines of all events as JSON, or as text for people, written to `writer`.
fn lines<S>(
    is_text: bool,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    let lines = form::layer().with_writer(writer);
    if is_text { lines.with_ansi(false).boxed() } else { lines.json().flatten_event(true).boxed() }
}

/// Access lines in a form of their own, written to `writer`.
fn access_lines<S>(
    format: &AccessLogFormat,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    match format {
        AccessLogFormat::Template(template) => TemplateLayer::new(template.clone(), writer).boxed(),
        format => lines(*format == AccessLogFormat::Text, writer),
    }
}
