//! DPDK's log: every line goes to the `log` crate (target `dpdk`), and the last warnings and errors are kept for a moment so
//! that a failed call can be explained in DPDK's own words. Set up once by `Eal::init`; any thread may log.

use std::collections::VecDeque;
use std::os::raw::{c_char, c_void};
use std::panic;
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::Level;

/// Lines of warning or worse that are kept.
const KEPT: usize = 4;
/// Pieces of lines that are written as errors although nothing is wrong: `net_tap` without flow rules, which are not used,
/// and without secondary processes, which there are none of; VFIO giving back memory page by page that it mapped at once;
/// rules that are divided and built again because they were too much for one table.
const HARMLESS: [&str; 10] = [
    "multiq qdisc",
    "rte flow support",
    "tap_nl_dump_ext_ack",
    "tap_mp_req_on_rxtx",
    "of DMA remapping cleared",
    "tb_pool(",
    "failed, currently allocated by pool",
    "acl_bld() failed with error code: -12",
    "Exceeded max number of tries",
    "-th trie failed",
];

/// Beginnings of lines that only say that the call failed, which its error says already.
const EMPTY_WORDS: [&str; 3] = ["EAL: Driver cannot attach", "EAL: Failed to attach", "EAL: Invalid 'command line'"];

/// Bytes of a line that are kept; DPDK's are far shorter.
const LINE_MAX: usize = 1_024;

static WORDS: Mutex<Words> = Mutex::new(Words { line: String::new(), kept: VecDeque::new() });

/// What has been said: the line being written, and the last complaints.
struct Words {
    line: String,
    kept: VecDeque<String>,
}

fn words() -> MutexGuard<'static, Words> {
    WORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends DPDK's log here. Without memory for a stream DPDK keeps writing to standard error, which is no reason to stop.
pub(crate) fn listen() {
    // SAFETY: `write` lives as long as the program and takes the arguments of a stdio cookie's write function.
    let result = unsafe { dpdk_sys::millrace_log_to(Some(write)) };
    if result != 0 {
        log::warn!(target: "dpdk", "DPDK's log cannot be redirected and stays on standard error");
    }
    // SAFETY: takes a level by value.
    unsafe { dpdk_sys::rte_log_set_global_level(level_wanted()) };
}

/// Forgets earlier complaints, before a call whose failure is to be explained.
pub(crate) fn forget() {
    words().kept.clear();
}

/// The complaints since [`forget`], ready to be put behind a sentence: `"; DPDK says: ..."`, or nothing.
pub(crate) fn since_forget() -> String {
    let words = words();
    if words.kept.is_empty() {
        return String::new();
    }
    let lines: Vec<&str> = words.kept.iter().map(String::as_str).collect();
    format!("; DPDK says: {}", lines.join(" / "))
}

/// The most talkative of DPDK's levels that anyone would see.
fn level_wanted() -> u32 {
    match log::max_level().to_level() {
        // Complaints are wanted in any case: they explain failed calls.
        None | Some(Level::Error | Level::Warn | Level::Info) => dpdk_sys::RTE_LOG_WARNING,
        Some(Level::Debug) => dpdk_sys::RTE_LOG_NOTICE,
        Some(Level::Trace) => dpdk_sys::RTE_LOG_DEBUG,
    }
}

/// How a DPDK level is called here. A step milder than there: what matters comes back as an error of ours.
fn level_of(number: u32) -> Level {
    if number <= dpdk_sys::RTE_LOG_ERR {
        Level::Warn
    } else if number == dpdk_sys::RTE_LOG_WARNING {
        Level::Info
    } else if number == dpdk_sys::RTE_LOG_NOTICE {
        Level::Debug
    } else {
        Level::Trace
    }
}

/// The write function of the log stream. Always takes everything, so that stdio never tries again.
unsafe extern "C" fn write(_cookie: *mut c_void, text: *const c_char, length: usize) -> isize {
    let taken = isize::try_from(length).unwrap_or(isize::MAX);
    if text.is_null() {
        return taken;
    }
    // SAFETY: stdio passes `length` readable bytes at `text`, and keeps them until this returns.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), length) };
    // SAFETY: reads the level of the message this thread is logging; no arguments.
    let number = unsafe { dpdk_sys::rte_log_cur_msg_loglevel() };
    let level = level_of(u32::try_from(number).unwrap_or(dpdk_sys::RTE_LOG_INFO));
    // A logger that panics must not unwind into C.
    let _ = panic::catch_unwind(|| hear(&String::from_utf8_lossy(bytes), level));
    taken
}

/// Collects text until a line is whole.
fn hear(text: &str, level: Level) {
    let mut whole = Vec::new();
    {
        let mut words = words();
        for piece in text.split_inclusive('\n') {
            if words.line.len() + piece.len() <= LINE_MAX {
                words.line.push_str(piece.trim_end_matches('\n'));
            }
            if piece.ends_with('\n') {
                let line = core::mem::take(&mut words.line);
                if !line.trim().is_empty() {
                    whole.push(line);
                }
            }
        }
        if level <= Level::Info {
            for line in whole.iter().filter(|line| is_telling(line)) {
                if words.kept.len() == KEPT {
                    words.kept.pop_front();
                }
                words.kept.push_back(line.trim().to_owned());
            }
        }
    }
    for line in whole {
        let level = if is_harmless(&line) { Level::Debug } else { level };
        log::log!(target: "dpdk", level, "{}", line.trim_end());
    }
}

fn is_harmless(line: &str) -> bool {
    HARMLESS.iter().any(|piece| line.contains(piece))
}

/// Whether a line explains anything.
fn is_telling(line: &str) -> bool {
    !is_harmless(line) && !EMPTY_WORDS.iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_only_complaints_are_kept() {
        forget();
        hear("EAL: No free ", Level::Warn);
        hear("hugepages\nEAL: Cannot init\n", Level::Warn);
        hear("EAL: Detected 2 lcores\n", Level::Debug);
        hear(
            "EAL: Driver cannot attach the device (net_x0)\nqdisc_create_multiq(): Could not add multiq qdisc\n",
            Level::Warn,
        );
        assert_eq!(since_forget(), "; DPDK says: EAL: No free hugepages / EAL: Cannot init");
        for number in 0..10 {
            hear(&format!("line {number}\n"), Level::Warn);
        }
        assert_eq!(since_forget(), "; DPDK says: line 6 / line 7 / line 8 / line 9");
        forget();
        assert_eq!(since_forget(), "");
    }

    #[test]
    fn levels_keep_their_order() {
        let numbers =
            [dpdk_sys::RTE_LOG_ERR, dpdk_sys::RTE_LOG_WARNING, dpdk_sys::RTE_LOG_NOTICE, dpdk_sys::RTE_LOG_INFO];
        assert!(numbers.is_sorted_by_key(|&number| level_of(number)));
        assert_eq!(level_of(1), Level::Warn);
        assert_eq!(level_of(99), Level::Trace);
    }
}
