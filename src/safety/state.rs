//! What the picture shows of the system's condition.

use std::fmt;

/// The condition of a session, judged anew with every frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// No mask has come yet.
    #[default]
    WarmUp,
    /// Masks come in time.
    Active,
    /// Masks come too late, or did until a moment ago; those that are young enough are drawn.
    Degraded,
    /// No mask is drawn: no worker can be relied on, or the user switched the marks off.
    Bypass,
}

impl State {
    /// Every state once.
    pub const ALL: [State; 4] = [State::WarmUp, State::Active, State::Degraded, State::Bypass];

    /// As it stands in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            State::WarmUp => "warm_up",
            State::Active => "active",
            State::Degraded => "degraded",
            State::Bypass => "bypass",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
