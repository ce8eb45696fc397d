// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/descriptor.hpp"

#include <algorithm>

namespace inox::devices::dsa {
namespace {

constexpr std::uint32_t common_flags = flag::fence | flag::completion_address_valid | flag::request_completion |
                                       flag::request_interrupt | flag::cache_control | flag::traffic_classes |
                                       flag::strict_order | flag::readback;

/// Flags beyond the common ones; the device has no page requests, so block-on-fault is never legal.
std::uint32_t extra_flags(Opcode opcode) {
    switch (opcode) {
    case Opcode::compare:
    case Opcode::compare_pattern:
    case Opcode::create_delta:
        return flag::check_result;
    case Opcode::crc:
    case Opcode::copy_crc:
        return flag::read_seed | flag::no_inversion | flag::no_reflection;
    default:
        return 0;
    }
}

/// How many operation-specific bytes are in use, from offset 40.
std::size_t specific_bytes(const Descriptor& descriptor) {
    switch (descriptor.opcode()) {
    case Opcode::compare:
    case Opcode::compare_pattern:
        return 1;
    case Opcode::create_delta:
        return 17;
    case Opcode::apply_delta:
        return 4;
    case Opcode::dualcast:
        return 8;
    case Opcode::crc:
    case Opcode::copy_crc:
        return 16;
    default:
        return 0;
    }
}

bool overlap(std::uint64_t a, std::uint64_t a_size, std::uint64_t b, std::uint64_t b_size) {
    return a_size != 0 && b_size != 0 && a < b + b_size && b < a + a_size;
}

bool moves_bytes(Opcode opcode) { return opcode != Opcode::noop && opcode != Opcode::drain && opcode != Opcode::batch; }

Status check_batch(const Descriptor& descriptor, const Limits& limits) {
    if (descriptor.size < 2 || descriptor.size > limits.max_batch)
        return Status::descriptor_count;
    return is_aligned(descriptor.source, descriptor_size) ? Status::none : Status::batch_list_alignment;
}

Status check_create_delta(const Descriptor& descriptor) {
    const auto size = descriptor.size;
    const auto delta = descriptor.field<std::uint64_t>(at::delta_address);
    const auto room = descriptor.field<std::uint32_t>(at::max_delta_size);
    if (!is_aligned(size, 8) || size > max_delta_source)
        return Status::transfer_size;
    if (room < min_delta_size)
        return Status::delta_size;
    if (!is_aligned(descriptor.source | descriptor.destination | delta, 8))
        return Status::address_alignment;
    return overlap(descriptor.source, size, delta, room) || overlap(descriptor.destination, size, delta, room)
               ? Status::overlap
               : Status::none;
}

Status check_apply_delta(const Descriptor& descriptor) {
    const auto record = descriptor.field<std::uint32_t>(at::delta_size);
    if (!is_aligned(descriptor.size, 8) || descriptor.size > max_delta_source)
        return Status::transfer_size;
    if (record == 0 || record % delta_entry_size != 0)
        return Status::delta_size;
    if (!is_aligned(descriptor.source | descriptor.destination, 8))
        return Status::address_alignment;
    return overlap(descriptor.source, record, descriptor.destination, descriptor.size) ? Status::overlap : Status::none;
}

Status check_dualcast(const Descriptor& descriptor) {
    const auto second = descriptor.field<std::uint64_t>(at::destination2);
    if (!is_aligned(descriptor.destination ^ second, 0x1000))
        return Status::dualcast_alignment;
    const bool bad = overlap(descriptor.source, descriptor.size, descriptor.destination, descriptor.size) ||
                     overlap(descriptor.source, descriptor.size, second, descriptor.size) ||
                     overlap(descriptor.destination, descriptor.size, second, descriptor.size);
    return bad ? Status::overlap : Status::none;
}

Status check_operands(const Descriptor& descriptor, const Limits& limits) {
    if (moves_bytes(descriptor.opcode()) && (descriptor.size == 0 || descriptor.size > limits.max_transfer))
        return Status::transfer_size;
    switch (descriptor.opcode()) {
    case Opcode::batch:
        return check_batch(descriptor, limits);
    case Opcode::create_delta:
        return check_create_delta(descriptor);
    case Opcode::apply_delta:
        return check_apply_delta(descriptor);
    case Opcode::dualcast:
        return check_dualcast(descriptor);
    case Opcode::copy_crc:
        return overlap(descriptor.source, descriptor.size, descriptor.destination, descriptor.size) ? Status::overlap
                                                                                                    : Status::none;
    default:
        return Status::none;
    }
}

} // namespace

Status check(const Descriptor& descriptor, const Limits& limits) noexcept {
    const auto number = static_cast<unsigned>(descriptor.opcode());
    if (number >= 64 || (supported_opcodes >> number & 1) == 0 ||
        (limits.inside_batch && (descriptor.opcode() == Opcode::batch || descriptor.opcode() == Opcode::drain)))
        return Status::bad_opcode;
    if ((descriptor.flags() & ~(common_flags | extra_flags(descriptor.opcode()))) != 0)
        return Status::invalid_flags;
    if (descriptor.has(flag::request_completion) && !descriptor.has(flag::completion_address_valid))
        return Status::invalid_flags;
    if (descriptor.privileged() && !limits.privileged_mode)
        return Status::privilege;
    if (descriptor.has(flag::request_interrupt) && !descriptor.privileged() && !limits.user_interrupts)
        return Status::invalid_flags;
    const auto unused = std::span{descriptor.specific}.subspan(specific_bytes(descriptor));
    if (descriptor.reserved != 0 || std::ranges::any_of(unused, [](std::byte byte) { return byte != std::byte{0}; }))
        return Status::nonzero_reserved;
    return check_operands(descriptor, limits);
}

} // namespace inox::devices::dsa
