//! Finds DPDK with pkg-config (22.11 or newer), makes Rust declarations for the part of its headers that `shim.h` pulls
//! in and the lists below name, and compiles the C wrappers that bindgen writes for the static inline functions among
//! them, and `allowance.c`. Output: `bindings.rs` in `OUT_DIR`, a small static library, and the linker's arguments for the
//! shared DPDK.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The oldest DPDK whose interfaces the bindings expect.
const DPDK_OLDEST: &str = "22.11";

/// Functions, static inline ones included. Everything `dpdk` calls and nothing else.
const FUNCTIONS: &[&str] = &[
    "millrace_.*",
    // Start and stop, threads, devices, words of errors.
    "rte_eal_(init|cleanup|get_runtime_dir|iova_mode|has_hugepages|hotplug_remove)",
    "rte_thread_(register|unregister)",
    "rte_dev_probe",
    "rte_strerror",
    "rte_log_(set_global_level|set_level_pattern|cur_msg_loglevel)",
    "rte_vect_(get|set)_max_simd_bitwidth",
    "rte_malloc_get_socket_stats",
    // Buffers.
    "rte_pktmbuf_(pool_create|pool_create_by_ops|alloc|free)",
    "rte_mempool_(free|avail_count|in_use_count)",
    // Ports.
    "rte_eth_(rx_burst|tx_burst|rx_queue_setup|tx_queue_setup|stats_get|stats_reset|macaddr_get)",
    "rte_eth_(xstats_get|xstats_get_names|promiscuous_enable|allmulticast_enable)",
    "rte_eth_dev_(info_get|configure|start|stop|close|get_port_by_name|set_mc_addr_list|set_mtu|get_mtu)",
    "rte_eth_dev_(default_mac_addr_set|rss_reta_update|socket_id|is_valid_port|adjust_nb_rx_tx_desc)",
    // Rule classification and routes.
    "rte_acl_(create|add_rules|build|classify|free|set_ctx_classify)",
    "rte_fib_(create|add|lookup_bulk|free)",
    "rte_fib6_(create|free)",
];

/// Types that the functions do not already bring with them.
const TYPES: &[&str] = &["rte_acl_.*", "rte_eth_rss_reta_entry64", "rte_eth_xstat.*"];

/// Constants.
const CONSTANTS: &[&str] = &["MILLRACE_.*", "RTE_ACL_.*", "RTE_ETH_MQ_RX_RSS", "RTE_LOG_.*", "RTE_MAX_LCORE"];

/// Types whose inside bindgen cannot express (packed and aligned at once) and nobody here looks into.
const OPAQUE: &[&str] = &["rte_mbuf", "rte_mempool", "rte_arp_.*", "rte_l2tpv2_.*", "rte_gtp_.*"];

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=shim.h");
    println!("cargo:rerun-if-changed=allowance.c");
    println!("cargo:rerun-if-changed=build.rs");
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("dpdk-sys: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set; build with cargo")?);
    // `statik(false)` is pkg-config's default but an environment variable can turn it; the EAL loads its drivers as
    // plug-ins only when it is a shared library itself.
    let dpdk =
        pkg_config::Config::new().atleast_version(DPDK_OLDEST).statik(false).probe("libdpdk").map_err(|error| {
            format!(
                "DPDK {DPDK_OLDEST} or newer was not found; on Debian: apt-get install libdpdk-dev pkg-config\n{error}"
            )
        })?;
    let flags = compiler_flags(&dpdk)?;
    let wrappers = out.join("wrappers.c");
    declare(&flags, &wrappers, &out.join("bindings.rs"))?;
    compile(&flags, &wrappers)
}

/// What DPDK's headers need: include paths, `rte_config.h` in front of everything and the instruction set they assume.
/// The pkg-config crate keeps only the paths, so the rest is asked for again.
fn compiler_flags(dpdk: &pkg_config::Library) -> Result<Vec<String>, String> {
    let mut flags: Vec<String> = dpdk.include_paths.iter().map(|path| format!("-I{}", path.display())).collect();
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    println!("cargo:rerun-if-env-changed=PKG_CONFIG");
    let answer = std::process::Command::new(&program)
        .args(["--cflags-only-other", "libdpdk"])
        .output()
        .map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    let words = String::from_utf8_lossy(&answer.stdout);
    flags.extend(words.split_whitespace().map(str::to_owned));
    Ok(flags)
}

fn declare(flags: &[String], wrappers: &Path, bindings: &Path) -> Result<(), String> {
    let mut builder = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(flags)
        .wrap_static_fns(true)
        .wrap_static_fns_path(wrappers)
        .use_core()
        .layout_tests(true)
        .derive_debug(false)
        .derive_default(true)
        .prepend_enum_name(false)
        .generate_comments(false)
        .merge_extern_blocks(true)
        .formatter(bindgen::Formatter::None)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new().rerun_on_header_files(true)));
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in CONSTANTS {
        builder = builder.allowlist_var(name);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    let generated = builder.generate().map_err(|error| {
        format!("declarations could not be made from DPDK's headers ({error}); on Debian: apt-get install libclang-dev clang")
    })?;
    generated.write_to_file(bindings).map_err(|error| format!("{}: {error}", bindings.display()))
}

fn compile(flags: &[String], wrappers: &Path) -> Result<(), String> {
    let here =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set; build with cargo")?);
    let mut compiler = cc::Build::new();
    compiler.file(wrappers).file(here.join("allowance.c")).include(&here).warnings(false).opt_level(2);
    for flag in flags {
        compiler.flag(flag);
    }
    compiler.try_compile("millrace_dpdk_wrappers").map_err(|error| format!("the C wrappers do not compile: {error}"))
}
