// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/header.hpp"

#include <cstddef>

#include "devices/virtio/net/uapi.hpp"

namespace inox::devices::virtio {
namespace {

static_assert(sizeof(NetHeader) == sizeof(virtio_net_hdr_v1));
static_assert(offsetof(NetHeader, segment_size) == offsetof(virtio_net_hdr_v1, gso_size));
static_assert(offsetof(NetHeader, checksum_offset) == offsetof(virtio_net_hdr_v1, csum_offset));
static_assert(offsetof(NetHeader, buffers) == offsetof(virtio_net_hdr_v1, num_buffers));
static_assert(net_feature::queue_pairs == feature::bit(VIRTIO_NET_F_MQ));
static_assert(net_feature::guest_offloads == feature::bit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
static_assert(net_feature::announce == feature::bit(VIRTIO_NET_F_GUEST_ANNOUNCE));
static_assert(net_feature::host_tso6 == feature::bit(VIRTIO_NET_F_HOST_TSO6));

constexpr std::uint8_t needs_checksum = VIRTIO_NET_HDR_F_NEEDS_CSUM;
constexpr std::uint8_t ecn = VIRTIO_NET_HDR_GSO_ECN;

struct SegmentationFeatures {
    std::uint64_t tso4, tso6, ufo, ecn;
};
constexpr SegmentationFeatures host{net_feature::host_tso4, net_feature::host_tso6, net_feature::host_ufo,
                                    net_feature::host_ecn};
constexpr SegmentationFeatures guest{net_feature::guest_tso4, net_feature::guest_tso6, net_feature::guest_ufo,
                                     net_feature::guest_ecn};

/// The feature bits that allow this kind of segmentation; 0 for an unknown kind.
std::uint64_t needed(std::uint8_t segmentation, const SegmentationFeatures& by) {
    const std::uint64_t extra = (segmentation & ecn) != 0 ? by.ecn : 0;
    switch (segmentation & ~ecn) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
        return by.tso4 | extra;
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return by.tso6 | extra;
    case VIRTIO_NET_HDR_GSO_UDP:
        return by.ufo | extra;
    default:
        return 0;
    }
}

} // namespace

const char* accept_sent(NetHeader& header, std::uint64_t frame, std::uint64_t negotiated) noexcept {
    if (frame < min_frame)
        return "a frame is shorter than an Ethernet header";
    if (frame > max_frame)
        return "a frame is longer than 64 KiB";
    header.flags &= needs_checksum; // 5.1.6.2.2: flags the device does not know are ignored
    header.buffers = 0;
    if (header.flags == 0) {
        header.checksum_start = 0;
        header.checksum_offset = 0;
    } else if ((negotiated & net_feature::checksum) == 0) {
        return "a frame asks for a checksum that was not negotiated";
    } else if (std::uint64_t{header.checksum_start} + header.checksum_offset + 2 > frame) {
        return "a frame's checksum lies beyond its end";
    }
    if (header.segmentation == VIRTIO_NET_HDR_GSO_NONE) {
        header.header_length = 0;
        header.segment_size = 0;
        return nullptr;
    }
    const std::uint64_t bits = needed(header.segmentation, host);
    if (bits == 0 || (negotiated & bits) != bits)
        return "a frame asks for segmentation that was not negotiated";
    if (header.flags == 0)
        return "a frame asks for segmentation without a checksum";
    if (header.segment_size == 0 || header.header_length > frame)
        return "a frame's segment size or header length is impossible";
    return nullptr;
}

bool accept_received(NetHeader& header, std::uint64_t offloads) noexcept {
    if ((offloads & net_feature::guest_checksum) == 0) {
        if ((header.flags & needs_checksum) != 0)
            return false;
        header.flags = 0;
    }
    if (header.segmentation == VIRTIO_NET_HDR_GSO_NONE)
        return true;
    const std::uint64_t bits = needed(header.segmentation, guest);
    return bits != 0 && (offloads & bits) == bits;
}

} // namespace inox::devices::virtio
