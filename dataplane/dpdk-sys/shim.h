/*
 * What Rust cannot reach in DPDK's headers by itself: macros, thread-local errno, bit fields, offsets inside rte_mbuf,
 * and calls whose argument types differ between DPDK versions. Each becomes a constant or a static inline function;
 * build.rs writes and compiles a wrapper with external linkage for every function used. No logic lives here.
 */
#ifndef MILLRACE_SHIM_H
#define MILLRACE_SHIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fopencookie */
#endif

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include <rte_acl.h>
#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_vect.h>
#include <rte_version.h>

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "DPDK 22.11 or newer is needed"
#endif

/* Where the fields of an mbuf lie; the structure itself is opaque to Rust, so its inner names may change. */
enum {
	MILLRACE_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	MILLRACE_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	MILLRACE_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	MILLRACE_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	MILLRACE_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	MILLRACE_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	MILLRACE_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	MILLRACE_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	MILLRACE_MBUF_SIZE = sizeof(struct rte_mbuf),
	MILLRACE_HEADROOM = RTE_PKTMBUF_HEADROOM,
};

/* How much this thread may still take with calloc, and whether it was refused any (allowance.c). */
struct millrace_allowance {
	size_t left;
	int refused;
};

/* Bounds the calling thread's calloc from here on, and with NULL no longer. The allowance stays the caller's. */
void millrace_allow(struct millrace_allowance *allowance);

/* Sizes the Rust side reads and writes these fields with. */
_Static_assert(sizeof(((struct rte_mbuf *)0)->buf_addr) == 8, "mbuf buf_addr");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_off) == 2, "mbuf data_off");
_Static_assert(sizeof(((struct rte_mbuf *)0)->nb_segs) == 2, "mbuf nb_segs");
_Static_assert(sizeof(((struct rte_mbuf *)0)->ol_flags) == 8, "mbuf ol_flags");
_Static_assert(sizeof(((struct rte_mbuf *)0)->pkt_len) == 4, "mbuf pkt_len");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_len) == 2, "mbuf data_len");
_Static_assert(sizeof(((struct rte_mbuf *)0)->vlan_tci) == 2, "mbuf vlan_tci");
_Static_assert(sizeof(((struct rte_mbuf *)0)->buf_len) == 2, "mbuf buf_len");

/* Offload flags of a received mbuf (macros with casts, which bindgen does not evaluate). */
static const uint64_t MILLRACE_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t MILLRACE_RX_VLAN = RTE_MBUF_F_RX_VLAN;
static const uint64_t MILLRACE_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t MILLRACE_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t MILLRACE_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t MILLRACE_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t MILLRACE_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t MILLRACE_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t MILLRACE_RX_L4_CKSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;

/* Bits of ethdev, written with macros likewise. */
static const uint64_t MILLRACE_RX_OFFLOAD_CHECKSUM = RTE_ETH_RX_OFFLOAD_CHECKSUM;
static const uint64_t MILLRACE_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t MILLRACE_RX_OFFLOAD_VLAN_STRIP = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
static const uint64_t MILLRACE_TX_OFFLOAD_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t MILLRACE_RSS_IP_TCP_UDP = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;
/* The upper halves: bindgen makes no constant of a value with the highest bit. */
static const uint32_t MILLRACE_RSS_SOURCE_ONLY_UPPER = (RTE_ETH_RSS_L3_SRC_ONLY | RTE_ETH_RSS_L4_SRC_ONLY) >> 32;
static const uint32_t MILLRACE_RSS_DESTINATION_ONLY_UPPER = (RTE_ETH_RSS_L3_DST_ONLY | RTE_ETH_RSS_L4_DST_ONLY) >> 32;
static const uint32_t MILLRACE_LCORE_ID_ANY = LCORE_ID_ANY;
static const int MILLRACE_SOCKET_ID_ANY = SOCKET_ID_ANY;
static const uint16_t MILLRACE_VECTOR_BITS_512 = RTE_VECT_SIMD_512;

/* The calling thread's rte_errno (a thread-local variable behind a macro). */
static inline int millrace_errno(void)
{
	return rte_errno;
}

/* The calling thread's lcore, MILLRACE_LCORE_ID_ANY when it has none. */
static inline unsigned int millrace_lcore_id(void)
{
	return rte_lcore_id();
}

/* The version of the DPDK that is loaded, as a static string. */
static inline const char *millrace_version(void)
{
	return rte_version();
}

/* The time stamp counter. */
static inline uint64_t millrace_tsc(void)
{
	return rte_rdtsc();
}

/* Link of a port: 1 up, 0 down, negative errno; speed in Mbit/s or UINT32_MAX when not known (fields are bit fields). */
static inline int millrace_link(uint16_t port, uint32_t *speed)
{
	struct rte_eth_link link;
	int result;

	memset(&link, 0, sizeof(link));
	result = rte_eth_link_get_nowait(port, &link);
	if (result < 0)
		return result;
	*speed = link.link_speed;
	return link.link_status;
}

/* Type of the function that takes DPDK's log text. */
typedef ssize_t (*millrace_log_write)(void *cookie, const char *text, size_t length);

/* Sends DPDK's log to `write`; 0, or -1 when there is no memory for a stream. */
static inline int millrace_log_to(millrace_log_write write)
{
	cookie_io_functions_t functions;
	FILE *stream;

	memset(&functions, 0, sizeof(functions));
	functions.write = write;
	stream = fopencookie(NULL, "w", functions);
	if (stream == NULL)
		return -1;
	return rte_openlog_stream(stream);
}

/* rte_fib6 takes bare bytes before DPDK 24.11 and struct rte_ipv6_addr since; both are 16 bytes in network order. */
static inline int millrace_fib6_add(struct rte_fib6 *fib, const uint8_t *address, uint8_t depth, uint64_t next_hop)
{
#if RTE_VERSION >= RTE_VERSION_NUM(24, 11, 0, 0)
	return rte_fib6_add(fib, (const struct rte_ipv6_addr *)address, depth, next_hop);
#else
	return rte_fib6_add(fib, address, depth, next_hop);
#endif
}

/* Looks up `count` addresses of 16 bytes each. */
static inline int millrace_fib6_lookup(struct rte_fib6 *fib, uint8_t *addresses, uint64_t *next_hops, int count)
{
#if RTE_VERSION >= RTE_VERSION_NUM(24, 11, 0, 0)
	return rte_fib6_lookup_bulk(fib, (const struct rte_ipv6_addr *)addresses, next_hops, count);
#else
	return rte_fib6_lookup_bulk(fib, (uint8_t (*)[RTE_FIB6_IPV6_ADDR_SIZE])addresses, next_hops, count);
#endif
}

#endif
