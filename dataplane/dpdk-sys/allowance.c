/*
 * A bound for what a DPDK call may take of ordinary memory while it works. rte_acl_build takes its working memory with
 * calloc, 8 MiB at a time, gives it back when it is done, and has no bound of its own: rules that cross each other make it
 * take all the machine has. It does give up in good order when calloc refuses.
 *
 * So this calloc stands in front of the C library's. A thread that has an allowance is refused what goes beyond it; for all
 * others it is the library's, one thread-local read later. glibc only, as __libc_calloc is.
 */
#include "shim.h"

#include <errno.h>

extern void *__libc_calloc(size_t count, size_t size);

static _Thread_local struct millrace_allowance *current;

void
millrace_allow(struct millrace_allowance *allowance)
{
	current = allowance;
}

void *
calloc(size_t count, size_t size)
{
	size_t bytes;

	/* What overflows is the library's to refuse. */
	if (current != NULL && !__builtin_mul_overflow(count, size, &bytes)) {
		if (bytes > current->left) {
			current->refused = 1;
			errno = ENOMEM;
			return NULL;
		}
		current->left -= bytes;
	}
	return __libc_calloc(count, size);
}
