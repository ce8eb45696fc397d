// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/descriptor.hpp"

#include <linux/idxd.h>

#include <cstddef>

#include "tests/catch.hpp"
#include "tests/support/dsa_field.hpp"

namespace inox::dsa_descriptor_test {

using namespace devices::dsa;

namespace {

constexpr Limits limits{.max_transfer = 0x10000, .max_batch = 16, .user_interrupts = true, .privileged_mode = true};

Descriptor make(Opcode opcode, std::uint32_t flags = 0) {
    Descriptor out{};
    out.flags_word = static_cast<std::uint32_t>(opcode) << 24 | flags;
    out.source = 0x10000;
    out.destination = 0x20000;
    out.size = 0x1000;
    return out;
}

} // namespace

TEST_CASE("fields lie where the kernel's header says") {
    CHECK(offsetof(dsa_hw_desc, completion_addr) == offsetof(Descriptor, completion));
    CHECK(offsetof(dsa_hw_desc, src_addr) == offsetof(Descriptor, source));
    CHECK(offsetof(dsa_hw_desc, dst_addr) == offsetof(Descriptor, destination));
    CHECK(offsetof(dsa_hw_desc, xfer_size) == offsetof(Descriptor, size));
    CHECK(offsetof(dsa_hw_desc, int_handle) == offsetof(Descriptor, interrupt_handle));
    CHECK(offsetof(dsa_hw_desc, expected_res) == at::expected_result);
    CHECK(offsetof(dsa_hw_desc, delta_addr) == at::delta_address);
    CHECK(offsetof(dsa_hw_desc, max_delta_size) == at::max_delta_size);
    CHECK(offsetof(dsa_hw_desc, expected_res_mask) == at::expected_mask);
    CHECK(offsetof(dsa_hw_desc, delta_rec_size) == at::delta_size);
    CHECK(offsetof(dsa_hw_desc, dest2) == at::destination2);
    CHECK(offsetof(dsa_hw_desc, crc_seed) == at::crc_seed);
    CHECK(offsetof(dsa_hw_desc, seed_addr) == at::crc_seed_address);
    CHECK(offsetof(dsa_completion_record, bytes_completed) == offsetof(CompletionRecord, bytes_completed));
    CHECK(offsetof(dsa_completion_record, fault_addr) == offsetof(CompletionRecord, fault_address));
    CHECK(offsetof(dsa_completion_record, crc_val) == offsetof(CompletionRecord, specific));
    CHECK(static_cast<unsigned>(Opcode::copy_crc) == DSA_OPCODE_COPY_CRC);
    CHECK(static_cast<unsigned>(Opcode::dualcast) == DSA_OPCODE_DUALCAST);
    CHECK(static_cast<unsigned>(Status::overlap) == DSA_COMP_OVERLAP_BUFFERS);
    CHECK(static_cast<unsigned>(Status::interrupt_handle) == DSA_COMP_INT_HANDLE_INVAL);
    CHECK(static_cast<unsigned>(Status::hardware_error) == DSA_COMP_HW_ERR1);
    CHECK(flag::readback == IDXD_OP_FLAG_DRDBK);
    CHECK(flag::request_interrupt == IDXD_OP_FLAG_RCI);
}

TEST_CASE("every opcode that OPCAP does not name is refused") {
    unsigned accepted = 0;
    for (unsigned opcode = 0; opcode < 0x100; ++opcode) {
        const Status status = check(make(static_cast<Opcode>(opcode)), limits);
        const bool known = opcode < 64 && (supported_opcodes >> opcode & 1) != 0;
        CHECK((status == Status::bad_opcode) == !known);
        accepted += known;
    }
    CHECK(accepted == 12);
}

TEST_CASE("flags that the operation does not have are refused") {
    for (unsigned bit = 0; bit < 24; ++bit) {
        const std::uint32_t one = 1U << bit;
        INFO(bit);
        const bool common =
            (one & (flag::fence | flag::completion_address_valid | flag::request_interrupt | flag::cache_control |
                    flag::traffic_classes | flag::strict_order | flag::readback)) != 0;
        auto descriptor = make(Opcode::memmove, one);
        descriptor.interrupt_handle = 1;
        if (one == flag::request_completion)
            CHECK(check(descriptor, limits) == Status::invalid_flags); // without an address
        else
            CHECK(check(descriptor, limits) == (common ? Status::none : Status::invalid_flags));
    }
    CHECK(check(make(Opcode::compare, flag::check_result), limits) == Status::none);
    CHECK(check(make(Opcode::crc, flag::read_seed | flag::no_inversion | flag::no_reflection), limits) == Status::none);
    CHECK(check(make(Opcode::noop, flag::request_completion | flag::completion_address_valid), limits) == Status::none);
}

TEST_CASE("privilege and interrupts need the device's leave") {
    auto descriptor = make(Opcode::noop);
    descriptor.pasid_word = 1U << 31;
    CHECK(check(descriptor, limits) == Status::none);
    Limits strict = limits;
    strict.privileged_mode = false;
    CHECK(check(descriptor, strict) == Status::privilege);
    descriptor.pasid_word = 0;
    descriptor.flags_word = flag::request_interrupt;
    descriptor.interrupt_handle = 2;
    CHECK(check(descriptor, limits) == Status::none);
    strict.user_interrupts = false;
    CHECK(check(descriptor, strict) == Status::invalid_flags);
}

TEST_CASE("reserved bytes must be zero, and only those") {
    const struct {
        Opcode opcode;
        std::size_t used;
    } rows[] = {{Opcode::noop, 0},          {Opcode::memmove, 0},  {Opcode::fill, 0},   {Opcode::crc, 16},
                {Opcode::create_delta, 17}, {Opcode::dualcast, 8}, {Opcode::compare, 1}};
    for (const auto& row : rows)
        for (std::size_t i = 0; i < 24; ++i) {
            auto descriptor = make(row.opcode);
            descriptor.specific[i] = std::byte{0x10};
            INFO(static_cast<unsigned>(row.opcode) << " byte " << i);
            CHECK((check(descriptor, limits) == Status::nonzero_reserved) == (i >= row.used));
        }
    auto descriptor = make(Opcode::memmove);
    descriptor.reserved = 1;
    CHECK(check(descriptor, limits) == Status::nonzero_reserved);
}

TEST_CASE("sizes are bounded by the queue's limits") {
    auto descriptor = make(Opcode::memmove);
    for (const std::uint32_t size : {0U, 0x10001U, 0xffffffffU}) {
        descriptor.size = size;
        CHECK(check(descriptor, limits) == Status::transfer_size);
    }
    descriptor.size = 0x10000;
    CHECK(check(descriptor, limits) == Status::none);
    auto batch = make(Opcode::batch);
    for (const std::uint32_t count : {0U, 1U, 17U, 0xffffffffU}) {
        batch.size = count;
        CHECK(check(batch, limits) == Status::descriptor_count);
    }
    batch.size = 16;
    CHECK(check(batch, limits) == Status::none);
    batch.source = 0x10020;
    CHECK(check(batch, limits) == Status::batch_list_alignment);
}

TEST_CASE("a batch contains neither batches nor drains") {
    Limits inside = limits;
    inside.inside_batch = true;
    CHECK(check(make(Opcode::batch), inside) == Status::bad_opcode);
    CHECK(check(make(Opcode::drain), inside) == Status::bad_opcode);
    CHECK(check(make(Opcode::noop), inside) == Status::none);
}

TEST_CASE("operands that overlap or are misaligned are refused by the operation's rules") {
    SECTION("dual cast") {
        auto descriptor = make(Opcode::dualcast);
        tests::set_field<std::uint64_t>(descriptor, at::destination2, 0x30008);
        CHECK(check(descriptor, limits) == Status::dualcast_alignment);
        descriptor.destination = 0x20008;
        CHECK(check(descriptor, limits) == Status::none);
        tests::set_field<std::uint64_t>(descriptor, at::destination2, 0x10008);
        CHECK(check(descriptor, limits) == Status::overlap);
    }
    SECTION("copy with CRC") {
        auto descriptor = make(Opcode::copy_crc);
        descriptor.destination = 0x10fff;
        CHECK(check(descriptor, limits) == Status::overlap);
        descriptor.destination = 0x11000;
        CHECK(check(descriptor, limits) == Status::none);
    }
    SECTION("create delta") {
        auto descriptor = make(Opcode::create_delta);
        tests::set_field<std::uint64_t>(descriptor, at::delta_address, 0x30000);
        CHECK(check(descriptor, limits) == Status::delta_size);
        tests::set_field<std::uint32_t>(descriptor, at::max_delta_size, 80);
        CHECK(check(descriptor, limits) == Status::none);
        tests::set_field<std::uint64_t>(descriptor, at::delta_address, 0x30004);
        CHECK(check(descriptor, limits) == Status::address_alignment);
        tests::set_field<std::uint64_t>(descriptor, at::delta_address, 0x10ff8);
        CHECK(check(descriptor, limits) == Status::overlap);
        descriptor.size = 0x1004;
        CHECK(check(descriptor, limits) == Status::transfer_size);
    }
    SECTION("apply delta") {
        auto descriptor = make(Opcode::apply_delta);
        CHECK(check(descriptor, limits) == Status::delta_size);
        tests::set_field<std::uint32_t>(descriptor, at::delta_size, 25);
        CHECK(check(descriptor, limits) == Status::delta_size);
        tests::set_field<std::uint32_t>(descriptor, at::delta_size, 20);
        CHECK(check(descriptor, limits) == Status::none);
        descriptor.destination = 0x10010;
        CHECK(check(descriptor, limits) == Status::overlap);
    }
}

} // namespace inox::dsa_descriptor_test
