// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/operations.hpp"

#include "devices/dsa/crc32c.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/dsa_pace.hpp"
#include "tests/fakes/paged_memory.hpp"
#include "tests/support/dsa_field.hpp"

namespace inox::dsa_operations_test {

using namespace devices::dsa;

namespace {

constexpr std::uint64_t source = 0x100000;
constexpr std::uint64_t target = 0x400123;
constexpr auto page = fakes::PagedMemory::page;

struct Bench {
    fakes::PagedMemory memory{1024};
    fakes::DsaPace pace{};
    CpuCopier copier{};
    Operation operation{memory, pace, copier};

    Bench() {
        memory.map(source, 100 * page);
        memory.map(target, 80 * page);
    }
    Outcome run(const Descriptor& descriptor) { return operation.run(descriptor); }
};

Descriptor make(Opcode opcode, std::uint64_t from, std::uint64_t to, std::uint32_t size, std::uint32_t flags = 0) {
    Descriptor out{};
    out.flags_word = static_cast<std::uint32_t>(opcode) << 24 | flags;
    out.source = from;
    out.destination = to;
    out.size = size;
    return out;
}

void check_fault(const Outcome& out, std::uint64_t address, bool write, std::uint32_t done) {
    CHECK(out.record.status == (write ? 0x83 : 0x03));
    CHECK(out.record.fault_address == address);
    CHECK(out.record.bytes_completed == done);
}

} // namespace

TEST_CASE("MEMMOVE copies exactly its bytes, across scattered pages and chunks") {
    for (const std::uint32_t size : {1U, 63U, 4096U, 5000U, 131072U, 131073U, 300000U}) {
        Bench bench;
        bench.memory.pattern(source + 77, size);
        auto expected = bench.memory.host();
        const auto out = bench.run(make(Opcode::memmove, source + 77, target, size));
        INFO(size);
        CHECK(out.succeeded());
        CHECK(out.record.bytes_completed == size);
        CHECK(bench.memory.bytes(target, size) == bench.memory.bytes(source + 77, size));
        // Nothing else changed.
        for (std::uint32_t i = 0; i < size; ++i)
            bench.memory.at(target + i) = std::byte{0xcc};
        CHECK(bench.memory.host() == expected);
    }
}

TEST_CASE("MEMMOVE of ranges that overlap is as if by a buffer, whichever way") {
    for (const std::int64_t distance : {-70000, -4096, -1, 1, 8, 4095, 4096, 70000}) {
        Bench bench;
        constexpr std::uint32_t size = 200000;
        const std::uint64_t from = source + 80000;
        bench.memory.pattern(from, size);
        const auto expected = bench.memory.bytes(from, size);
        const std::uint64_t to = from + static_cast<std::uint64_t>(distance);
        const auto out = bench.run(make(Opcode::memmove, from, to, size));
        INFO(distance);
        CHECK(out.succeeded());
        CHECK(out.record.result == 0);
        CHECK(bench.memory.bytes(to, size) == expected);
    }
}

TEST_CASE("a page fault says where, whether by a write, and how much was done before it") {
    Bench bench;
    bench.memory.pattern(source, 4 * page);
    SECTION("source") {
        bench.memory.unmap(source + 2 * page);
        check_fault(bench.run(make(Opcode::memmove, source + 16, target, 4 * page)), source + 2 * page, false,
                    2 * page - 16);
        CHECK(bench.memory.bytes(target, 2 * page - 16) == bench.memory.bytes(source + 16, 2 * page - 16));
    }
    SECTION("destination is read-only") {
        bench.memory.protect(target + page, Access::read);
        check_fault(bench.run(make(Opcode::memmove, source, target, 4 * page)), (target / page + 1) * page, true,
                    page - target % page);
    }
    SECTION("first byte") {
        check_fault(bench.run(make(Opcode::memmove, 0x90000000, target, 8)), 0x90000000, false, 0);
    }
    SECTION("end of the address space") {
        bench.memory.map(~std::uint64_t{0} - 10, 1);
        check_fault(bench.run(make(Opcode::memmove, ~std::uint64_t{0} - 9, target, 100)), 0, false, 10);
    }
    SECTION("backwards") {
        bench.memory.unmap(source + page);
        const auto out = bench.run(make(Opcode::memmove, source, source + 100, 4 * page));
        CHECK(out.record.status == 0x03);
        CHECK(out.record.result == 1);
        CHECK(out.record.bytes_completed == 2 * page - 0); // source pages 2 and 3
        CHECK(out.record.fault_address == source + 2 * page - 1);
    }
    SECTION("a compare") {
        bench.memory.unmap(target + page);
        bench.memory.pattern(target, page - target % page);
        check_fault(bench.run(make(Opcode::compare, source, target, 4 * page)), (target / page + 1) * page, false,
                    page - target % page);
    }
}

TEST_CASE("an abort leaves nothing to report") {
    Bench bench;
    bench.pace.cancel = true;
    for (const std::uint64_t to : {target, source + 1})
        CHECK(bench.run(make(Opcode::memmove, source, to, 200)).cancelled);
}

TEST_CASE("translations are held for a chunk at most") {
    Bench bench;
    CHECK(bench.run(make(Opcode::memmove, source, target, 2 * Transfer::chunk_size)).succeeded());
    CHECK(bench.memory.holds == 2);
}

TEST_CASE("FILL repeats its pattern from the first byte on") {
    Bench bench;
    const auto out = bench.run(make(Opcode::fill, 0x0807060504030201, target, 140001));
    CHECK(out.succeeded());
    bool good = true;
    for (std::uint64_t i = 0; i < 140001; ++i)
        good = good && bench.memory.at(target + i) == static_cast<std::byte>(i % 8 + 1);
    CHECK(good);
    CHECK(bench.memory.at(target - 1) == std::byte{0xcc});
    CHECK(bench.memory.at(target + 140001) == std::byte{0xcc});
}

TEST_CASE("COMPARE and COMPARE PATTERN say where the first difference is") {
    Bench bench;
    bench.memory.pattern(source, 150000);
    bench.memory.pattern(target, 150000);
    auto compare = make(Opcode::compare, source, target, 150000);
    auto out = bench.run(compare);
    CHECK(out.succeeded());
    CHECK(out.record.result == 0);
    bench.memory.at(target + 140000) = ~bench.memory.at(target + 140000);
    out = bench.run(compare);
    CHECK(out.succeeded());
    CHECK(out.record.result == 1);
    CHECK(out.record.bytes_completed == 140000);
    compare.flags_word = compare.flags_word | flag::check_result;
    CHECK(bench.run(compare).record.status == 2);
    tests::set_field<std::uint8_t>(compare, at::expected_result, 1);
    CHECK(bench.run(compare).record.status == 1);

    REQUIRE(bench.run(make(Opcode::fill, 0x1122334455667788, source + 3, 20000)).succeeded());
    auto pattern = make(Opcode::compare_pattern, source + 3, 0x1122334455667788, 20000);
    CHECK(bench.run(pattern).record.result == 0);
    bench.memory.at(source + 3 + 19999) = std::byte{0};
    out = bench.run(pattern);
    CHECK(out.record.result == 1);
    CHECK(out.record.bytes_completed == 19999);
}

TEST_CASE("DUALCAST writes both destinations") {
    Bench bench;
    bench.memory.map(0x900000, 20 * page);
    bench.memory.pattern(source, 50000);
    auto descriptor = make(Opcode::dualcast, source, target, 50000);
    tests::set_field<std::uint64_t>(descriptor, at::destination2, 0x900123);
    CHECK(bench.run(descriptor).succeeded());
    CHECK(bench.memory.bytes(target, 50000) == bench.memory.bytes(source, 50000));
    CHECK(bench.memory.bytes(0x900123, 50000) == bench.memory.bytes(source, 50000));
    bench.memory.unmap(0x901000);
    check_fault(bench.run(descriptor), 0x901000, true, 0xedd);
}

TEST_CASE("CRC is iSCSI's, by instruction and by rule") {
    const std::string text = "123456789";
    const auto bytes = std::as_bytes(std::span{text});
    CHECK(~crc32c(~0U, bytes) == 0xe3069283);
    CHECK(reverse_bits(0x80000001) == 0x80000001);
    CHECK(reverse_bits(1) == 0x80000000);
    // Mirroring each byte's bits and the result makes the unreflected register the reflected one.
    std::vector<std::byte> mirrored;
    for (const auto byte : bytes)
        mirrored.push_back(static_cast<std::byte>(reverse_bits(static_cast<std::uint32_t>(byte)) >> 24));
    CHECK(reverse_bits(crc32c_unreflected(~0U, mirrored)) == crc32c(~0U, bytes));
    CHECK(crc32c(crc32c(~0U, bytes.first(4)), bytes.subspan(4)) == crc32c(~0U, bytes));
}

TEST_CASE("CRC and COPY WITH CRC take their seed from descriptor or memory") {
    Bench bench;
    bench.memory.set(source, std::as_bytes(std::span{"123456789", 9}));
    auto descriptor = make(Opcode::crc, source, 0, 9);
    CHECK(bench.run(descriptor).record.specific == 0xe3069283);
    // A CRC continues with the last result as its seed.
    auto first = make(Opcode::crc, source, 0, 4);
    auto second = make(Opcode::copy_crc, source + 4, target, 5);
    tests::set_field<std::uint32_t>(second, at::crc_seed, static_cast<std::uint32_t>(bench.run(first).record.specific));
    CHECK(bench.run(second).record.specific == 0xe3069283);
    CHECK(bench.memory.bytes(target, 5) == bench.memory.bytes(source + 4, 5));
    const std::uint32_t seed = static_cast<std::uint32_t>(bench.run(first).record.specific);
    bench.memory.set(source + 64, std::as_bytes(std::span{&seed, 1}));
    second.flags_word = second.flags_word | flag::read_seed;
    tests::set_field<std::uint32_t>(second, at::crc_seed, 0);
    tests::set_field<std::uint64_t>(second, at::crc_seed_address, source + 64);
    CHECK(bench.run(second).record.specific == 0xe3069283);
    tests::set_field<std::uint64_t>(second, at::crc_seed_address, 0x90000000);
    check_fault(bench.run(second), 0x90000000, false, 0);
}

TEST_CASE("a delta turns the first source into the second") {
    Bench bench;
    constexpr std::uint32_t size = 40000;
    constexpr std::uint64_t second = source + 0x10000, record = source + 0x20000;
    bench.memory.pattern(source, size, 1);
    bench.memory.pattern(second, size, 1);
    auto create = make(Opcode::create_delta, source, second, size);
    tests::set_field<std::uint64_t>(create, at::delta_address, record);
    tests::set_field<std::uint32_t>(create, at::max_delta_size, 1000);
    auto out = bench.run(create);
    CHECK(out.succeeded());
    CHECK(out.record.result == 0);
    CHECK(out.record.specific == 0);
    for (const std::uint32_t at : {0U, 8U, 4088U, 4096U, 39992U})
        bench.memory.at(second + at + 3) = ~bench.memory.at(second + at + 3);
    out = bench.run(create);
    CHECK(out.succeeded());
    CHECK(out.record.result == 1);
    CHECK(out.record.specific == 50);

    auto apply = make(Opcode::apply_delta, record, source, size);
    tests::set_field<std::uint32_t>(apply, at::delta_size, 50);
    CHECK(bench.run(apply).succeeded());
    CHECK(bench.memory.bytes(source, size) == bench.memory.bytes(second, size));

    SECTION("no room") {
        bench.memory.pattern(second, size, 2);
        out = bench.run(create);
        CHECK(out.succeeded());
        CHECK(out.record.result == 2);
        CHECK(out.record.specific == 1000);
    }
    SECTION("a record that goes back, or beyond") {
        bench.memory.set(record + 10, std::array{std::byte{0}, std::byte{0}});
        out = bench.run(apply);
        CHECK(out.record.status == 7);
        CHECK(out.record.bytes_completed == 10);
        bench.memory.set(record + 10, std::array{std::byte{0x88}, std::byte{0x13}}); // 5000 * 8 = size
        CHECK(bench.run(apply).record.status == 8);
    }
    SECTION("faults") {
        bench.memory.at(second) = ~bench.memory.at(second);
        bench.memory.unmap(record);
        check_fault(bench.run(create), record, true, 0);
        check_fault(bench.run(apply), record, false, 0);
    }
}

TEST_CASE("DRAIN reads back what it is told to") {
    Bench bench;
    CHECK(bench.run(make(Opcode::drain, 0, 0, 0)).succeeded());
    CHECK(bench.run(make(Opcode::drain, source, target, 0, flag::readback)).succeeded());
    const auto out = bench.run(make(Opcode::drain, source, 0x90000000, 0, flag::readback));
    CHECK(out.record.status == 0x1f);
    CHECK(out.record.fault_address == 0x90000000);
}

} // namespace inox::dsa_operations_test
