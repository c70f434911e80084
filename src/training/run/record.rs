//! The logs of a run: steps and epochs flow in, lines of `log.jsonl` and `log.csv` flow out. Each line is written at
//! once, so that a killed run has lost at most the one being written. A run that goes on drops what was written after
//! the state it goes on from.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::judge::Verdict;
use super::trainer::Step;
use crate::result_file::write_whole;
use crate::{Error, Result};

/// A line of `log.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Line {
    /// After a step.
    Step {
        /// Steps done, from 1.
        step: u64,
        /// Epochs that were complete before this step.
        epoch: u64,
        /// Total loss of the batch.
        loss: f64,
        /// Weighted BCE and weighted IoU of the batch.
        structure: f64,
        /// LossNet's part before it is weighted; absent without LossNet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lossnet: Option<f64>,
        /// The decoder's learning rate.
        rate: f64,
        /// Norm of the gradients before clipping.
        norm: f64,
        /// Seconds of this step, with waiting for its batch.
        seconds: f64,
    },
    /// After an epoch, or before the first step.
    Epoch {
        /// Steps done; 0 before the first.
        step: u64,
        /// Epochs done, 0 before the first step; in a run of minutes, quarters of the run done.
        epoch: u64,
        /// Mean total loss of the steps since the epoch before; 0 before the first step.
        loss: f64,
        /// Seconds of training, over all sessions of the run.
        seconds: f64,
        /// What validation said; absent without validation data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        validation: Option<Verdict>,
        /// Whether no epoch before was as good.
        best: bool,
    },
}

impl Line {
    fn step(&self) -> u64 {
        match self {
            Self::Step { step, .. } | Self::Epoch { step, .. } => *step,
        }
    }
}

const CSV: &str = "epoch,step,seconds,loss,m_dice,m_iou,count,false_marks,negatives,score,best\n";

/// Both logs, open.
pub struct Record {
    jsonl: (PathBuf, File),
    csv: (PathBuf, File),
    /// Everything so far, for the page.
    pub lines: Vec<Line>,
}

impl Record {
    /// Begins the logs in a folder, or goes on with them after step `from`.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(folder: &Path, from: Option<u64>) -> Result<Self> {
        let (jsonl, csv) = (folder.join("log.jsonl"), folder.join("log.csv"));
        let mut lines = Vec::new();
        if let Some(from) = from
            && let Ok(file) = File::open(&jsonl)
        {
            for line in BufReader::new(file).lines() {
                let text = line.map_err(|e| Error::read(&jsonl, e))?;
                // A line that was being written when the run was killed is none.
                if let Ok(line) = serde_json::from_str::<Line>(&text)
                    && line.step() <= from
                {
                    lines.push(line);
                }
            }
        }
        let text: String = lines.iter().map(json).collect::<Result<Vec<_>>>()?.concat();
        write_whole(&jsonl, text.as_bytes(), true)?;
        let text: String = std::iter::once(CSV.to_owned()).chain(lines.iter().filter_map(row)).collect();
        write_whole(&csv, text.as_bytes(), true)?;
        let append =
            |path: &Path| OpenOptions::new().append(true).open(path).map_err(|e| Error::write(path, e));
        Ok(Self { jsonl: (jsonl.clone(), append(&jsonl)?), csv: (csv.clone(), append(&csv)?), lines })
    }

    /// # Errors
    /// A full disk.
    pub fn add(&mut self, line: Line) -> Result<()> {
        let write = |(path, file): &mut (PathBuf, File), text: &str| {
            file.write_all(text.as_bytes()).map_err(|e| Error::write(path, e))
        };
        write(&mut self.jsonl, &json(&line)?)?;
        if let Some(row) = row(&line) {
            write(&mut self.csv, &row)?;
        }
        self.lines.push(line);
        Ok(())
    }

    /// Writes the line of a step that took `seconds`.
    ///
    /// # Errors
    /// A full disk.
    pub fn step(&mut self, epoch: u64, step: u64, of: &Step, seconds: f64) -> Result<()> {
        self.add(Line::Step {
            step,
            epoch,
            loss: of.losses.total,
            structure: of.losses.structure,
            lossnet: of.losses.lossnet,
            rate: of.rate,
            norm: of.norm,
            seconds,
        })
    }
}

fn json(line: &Line) -> Result<String> {
    let text = serde_json::to_string(line)
        .map_err(|e| Error::internal("a line of the log cannot be put into JSON").because(e))?;
    Ok(text + "\n")
}

fn row(line: &Line) -> Option<String> {
    let Line::Epoch { step, epoch, loss, seconds, validation, best } = line else { return None };
    let of = validation.as_ref().map_or(String::from(",,,,,"), |v| {
        let f = &v.all;
        format!("{:.6},{:.6},{},{},{},{:.6}", f.m_dice, f.m_iou, f.count, f.false_marks, f.negatives, v.score)
    });
    Some(format!("{epoch},{step},{seconds:.1},{loss:.6},{of},{}\n", u8::from(*best)))
}
