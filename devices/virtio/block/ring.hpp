// SPDX-License-Identifier: Apache-2.0
// A ring of io_uring that does nothing but the I/O of disks, whoever fills it: a filter of system calls does not see
// what is asked for in a ring.
#pragma once

#include <fcntl.h>
#include <liburing.h>

namespace inox::devices::virtio {

/// Returns 0, or an errno below 0. Linux 5.10.
int open_ring(io_uring& ring, unsigned depth) noexcept;

} // namespace inox::devices::virtio
