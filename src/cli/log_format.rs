//! Lines of the log: a level, where it comes from with `-v`, and what is said.
//!
//! In: events. Out: one line each. What other programs and files put into an event cannot steer the terminal.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::shown::OneLine;

/// See the module.
pub(super) struct LogFormat {
    /// Whether the module that speaks is named.
    pub target: bool,
}

impl<S, N> FormatEvent<S, N> for LogFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if to.has_ansi_escapes() {
            let colour = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                Level::DEBUG => 34,
                _ => 35,
            };
            write!(to, "\u{1b}[{colour}m{level:>5}\u{1b}[0m ")?;
        } else {
            write!(to, "{level:>5} ")?;
        }
        if self.target {
            write!(to, "{}: ", event.metadata().target())?;
        }
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(to, "{}: ", span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(to, "{} ", OneLine(fields))?;
            }
        }
        let mut said = String::new();
        context.format_fields(Writer::new(&mut said), event)?;
        writeln!(to, "{}", OneLine(said))
    }
}
