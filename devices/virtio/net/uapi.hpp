// SPDX-License-Identifier: Apache-2.0
// The kernel's virtio-net constants. Its header has a field named "class", a word C++ keeps for itself.
#pragma once

#include <linux/if_ether.h>
#include <linux/types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_types.h>

#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wkeyword-macro"
#endif
#define class class_ // NOLINT
#include <linux/virtio_net.h>
#undef class
#ifdef __clang__
#pragma clang diagnostic pop
#endif
