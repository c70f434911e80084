//! Where the scope is at every frame: settings and the colon's axis go in, a pose comes out, the same whichever frame
//! was asked for before.

use super::colon::Colon;
use super::noise::{Stream, sin_cos};
use super::settings::{Preset, Settings};
use super::space::{Pose, Vec3, add, cross, dot, length, mad, scale, sub, unit};

/// How a preset moves. Lengths in mm, angles in turns, frequencies in Hz.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// Withdrawal, mm/s.
    speed: f64,
    /// To and fro along the colon: amplitude and frequency.
    rocking: (f64, f64),
    /// Sideways in the lumen.
    drift: (f64, f64),
    /// Deflection of the tip.
    steering: (f64, f64),
    /// Torque about the axis.
    torque: (f64, f64),
    /// Tremor of the hand, and the pulse.
    tremor: (f64, f64),
    /// Share of the frame time the shutter is open.
    shutter: f64,
}

fn manner(preset: Preset) -> Manner {
    match preset {
        Preset::Calm => Manner {
            speed: 5.0,
            rocking: (1.2, 0.22),
            drift: (3.0, 0.12),
            steering: (0.022, 0.16),
            torque: (0.03, 0.1),
            tremor: (0.0006, 2.2),
            shutter: 0.25,
        },
        Preset::Typical => Manner {
            speed: 10.0,
            rocking: (2.5, 0.3),
            drift: (4.0, 0.22),
            steering: (0.034, 0.32),
            torque: (0.05, 0.2),
            tremor: (0.0012, 2.6),
            shutter: 0.3,
        },
        Preset::Brisk => Manner {
            speed: 20.0,
            rocking: (5.0, 0.45),
            drift: (5.0, 0.4),
            steering: (0.046, 0.6),
            torque: (0.08, 0.3),
            tremor: (0.0025, 3.0),
            shutter: 0.35,
        },
        Preset::Fast => Manner {
            speed: 34.0,
            rocking: (7.0, 0.7),
            drift: (5.5, 0.6),
            steering: (0.062, 0.95),
            torque: (0.11, 0.5),
            tremor: (0.004, 3.4),
            shutter: 0.4,
        },
    }
}

/// Colon in front of the scope that is drawn, and behind it.
pub(crate) const AHEAD: f32 = 170.0;
pub(crate) const BEHIND: f32 = 60.0;
/// Longest colon built; longer clips go to and fro in it.
const LONGEST: f64 = 1300.0;
/// Mean distance of polyps along the colon when nothing else is asked for.
const POLYP_SPACING: f64 = 230.0;
/// How far in front of the scope a polyp is looked at longest.
const INSPECTION: f32 = 24.0;

/// The examination: how far the scope goes, and where polyps lie on its way.
pub(crate) struct Plan {
    manner: Manner,
    period: Option<f64>,
    frame_seconds: f64,
    /// Length of colon to be built.
    pub millimetres: f32,
    /// Range of the scope.
    from: f64,
    to: f64,
    /// Distances along the colon.
    pub polyps: Vec<f32>,
    /// Way made good, in mm, at every 1/30 s.
    way: Vec<f32>,
    steering: [Stream; 8],
    loop_frames: Option<u64>,
}

const KNOTS_PER_SECOND: f64 = 30.0;

impl Plan {
    pub fn new(settings: &Settings) -> Self {
        let manner = manner(settings.preset);
        let seconds = settings.seconds();
        let travel_seconds = if settings.looped { seconds / 2.0 } else { seconds };
        let travel = (manner.speed * travel_seconds).min(LONGEST - f64::from(AHEAD + BEHIND));
        let (from, to) = (f64::from(BEHIND), f64::from(BEHIND) + travel);
        let spread = Stream::new(settings.seed, "polyp distances");
        let spacing = match settings.polyps_per_minute {
            None => POLYP_SPACING,
            Some(0.0) => f64::INFINITY,
            // The scope dwells at each polyp, which costs it a second or so.
            Some(n) => (manner.speed * 60.0 / n).max(6.0),
        };
        let mut polyps = Vec::new();
        if spacing.is_finite() {
            // Withdrawn from `to` towards `from`, the first one comes into view soon.
            let soon = (spacing * 0.35).min(travel * 0.35).min(45.0);
            let mut s = to - soon + f64::from(INSPECTION);
            let mut k = 0;
            while s > from + 4.0 {
                polyps.push(s as f32);
                s -= spacing * (0.7 + 0.6 * f64::from(spread.unit(k)));
                k += 1;
            }
        }
        let mut plan = Self {
            manner,
            period: settings.looped.then_some(seconds),
            frame_seconds: 1.0 / settings.rate.as_f64(),
            millimetres: (to as f32) + AHEAD + 5.0,
            from,
            to,
            polyps,
            way: Vec::new(),
            steering: std::array::from_fn(|k| Stream::new(settings.seed, "scope").child(k as u64)),
            loop_frames: settings.looped.then_some(settings.frames),
        };
        plan.way = plan.travel(travel_seconds);
        plan
    }

    /// Integrates the way made good: slower where there is a polyp to look at, turning at the ends of the range.
    fn travel(&self, seconds: f64) -> Vec<f32> {
        let knots = (seconds * KNOTS_PER_SECOND) as usize + 4;
        let mut way = Vec::with_capacity(knots);
        let mut s = self.to;
        let mut heading = -1.0f64;
        for _ in 0..knots {
            way.push(s as f32);
            let near = self
                .polyps
                .iter()
                .map(|p| (f64::from(*p) - s - f64::from(INSPECTION)).abs())
                .fold(1e9, f64::min);
            let x = (near / 16.0).min(1.0);
            let dwell = 1.0 - 0.62 * (1.0 - x * x) * (1.0 - x * x);
            let step = self.manner.speed * dwell * 1.25 / KNOTS_PER_SECOND;
            // Heading turns over a second, not at once.
            if s < self.from + 3.0 {
                heading = (heading + 0.06).min(1.0);
            } else if s > self.to - 3.0 {
                heading = (heading - 0.06).max(-1.0);
            } else {
                heading += if heading < 0.0 { -0.06 } else { 0.06 };
                heading = heading.clamp(-1.0, 1.0);
            }
            s += heading * step;
        }
        way
    }

    /// Distance along the colon at a time.
    fn way_at(&self, t: f64) -> f64 {
        // A loop goes out and comes back by the same way, standing still for a moment at both ends.
        let t = match self.period {
            Some(p) => {
                let phase = t / p;
                (1.0 - sin_cos(phase).1) * 0.25 * p
            }
            None => t,
        };
        let x = (t * KNOTS_PER_SECOND).clamp(0.0, (self.way.len() - 3) as f64);
        let i = x as usize;
        let f = x - i as f64;
        let at = |k: usize| f64::from(self.way[k.min(self.way.len() - 1)]);
        let (a, b, c, d) = (at(i.saturating_sub(1)), at(i), at(i + 1), at(i + 2));
        // Catmull-Rom through the knots.
        b + 0.5 * f * (c - a + f * (2.0 * a - 5.0 * b + 4.0 * c - d + f * (3.0 * (b - c) + d - a)))
    }

    /// Smooth noise at a mean frequency, in a loop as many whole swings as come nearest.
    fn swing(&self, which: usize, t: f64, (amplitude, hertz): (f64, f64)) -> f64 {
        let s = self.steering[which];
        // Value noise has half a swing a cell.
        match self.period {
            Some(p) => {
                let cells = (p * hertz * 2.0).round().max(2.0);
                amplitude * 1.4 * s.wander(t / p * cells, Some(cells as u64))
            }
            None => amplitude * 1.4 * s.wander(t * hertz * 2.0 + 1000.0, None),
        }
    }

    pub fn time_of(&self, frame: u64) -> f64 {
        let frame = match self.loop_frames {
            Some(n) => frame % n,
            None => frame,
        };
        frame as f64 * self.frame_seconds
    }

    pub fn shutter(&self) -> f32 {
        self.manner.shutter as f32
    }

    /// Pose at a frame, and its distance along the colon. `gaze` holds the middle of every polyp and its distance
    /// along.
    pub fn pose(&self, frame: u64, colon: &Colon, gaze: &[(Vec3, f32)]) -> (Pose, f32) {
        let t = self.time_of(frame);
        let m = &self.manner;
        let s = (self.way_at(t) + self.swing(0, t, m.rocking)).max(58.0) as f32;
        let axis = colon.axis_at(s);
        let (dx, dy) = (self.swing(1, t, m.drift) as f32, self.swing(2, t, m.drift) as f32);
        let mut at = mad(mad(axis.centre, axis.across, dx), axis.up, dy);
        // Keep clear of what hangs into the lumen.
        for &(middle, ps) in gaze {
            if (ps - s).abs() < 40.0 {
                let away = sub(at, middle);
                let d = length(away);
                let push = 19.0 - d;
                if push > 0.0 {
                    let sideways = sub(away, scale(axis.along, dot(away, axis.along)));
                    at = mad(at, unit(sideways), push * push / (push + 6.0));
                }
            }
        }
        // And of the wall.
        let off = sub(at, axis.centre);
        let across = sub(off, scale(axis.along, dot(off, axis.along)));
        let d = length(across);
        if d > 7.0 {
            at = mad(at, unit(across), 7.0 + (d - 7.0) / (1.0 + 0.35 * (d - 7.0)) - d);
        }
        let mut look = unit(sub(colon.axis_at(s + 34.0).centre, at));
        for &(middle, ps) in gaze {
            let ahead = ps - s;
            if ahead > 2.0 && ahead < 75.0 {
                let rise = ((ahead - 2.0) / 14.0).min(1.0);
                let fall = ((75.0 - ahead) / 35.0).min(1.0);
                let w = 0.62 * rise * rise * (3.0 - 2.0 * rise) * fall * fall * (3.0 - 2.0 * fall);
                let there = unit(sub(middle, at));
                look = unit(add(scale(look, 1.0 - w), scale(there, w)));
            }
        }
        let mut right = unit(sub(axis.across, scale(look, dot(axis.across, look))));
        let mut down = cross(look, right);
        let turn = |a: Vec3, b: Vec3, turns: f64| -> (Vec3, Vec3) {
            let (sin, cos) = sin_cos(turns);
            let (sin, cos) = (sin as f32, cos as f32);
            (mad(scale(a, cos), b, sin), mad(scale(b, cos), a, -sin))
        };
        (right, down) = turn(right, down, self.swing(3, t, m.torque));
        let yaw = self.swing(4, t, m.steering) + self.swing(6, t, m.tremor);
        let pitch = self.swing(5, t, m.steering) + self.swing(7, t, m.tremor);
        (look, right) = turn(look, right, yaw);
        (look, down) = turn(look, down, pitch);
        (Pose { at, right, down, forward: look }, s)
    }
}
