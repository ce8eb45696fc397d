// SPDX-License-Identifier: Apache-2.0
// Registers, commands and the states of queues.
#include "devices/dsa/accelerator.hpp"

#include <set>

#include "tests/catch.hpp"
#include "tests/fakes/dsa_driver.hpp"
#include "tests/support/files.hpp"
#include "tests/support/register_table.hpp"

namespace inox::dsa_accelerator_test {

using namespace devices::dsa;
using fakes::DsaDriver;

namespace {

std::uint32_t code(CommandError error) { return static_cast<std::uint32_t>(error); }

} // namespace

TEST_CASE("capabilities say what this device is") {
    DsaDriver driver{{.queues = 8, .entries = 128, .engines = 4}};
    CHECK(driver.get(reg::version) == 0x100);
    CHECK((driver.get64(reg::gencap) >> 31 & 1) == 1);
    CHECK((driver.get64(reg::gencap) & 1) == 0);
    CHECK((driver.get64(reg::wqcap) & 0xffffff) == (8 << 16 | 128));
    CHECK((driver.get64(reg::wqcap) >> 48 & 3) == 3);
    CHECK(driver.get64(reg::grpcap) == 4);
    CHECK(driver.get64(reg::engcap) == 4);
    CHECK(driver.get64(reg::opcap) == supported_opcodes);
    CHECK(driver.get64(reg::opcap + 8) == 0);
    CHECK(driver.get64(reg::table_offsets) == 0x0000'0003'0006'0004);
    CHECK(driver.get(reg::cmdcap) == 0x1ffe);
    CHECK(driver.get(reg::gensts) == 0);
    driver.set(reg::version, 7);
    driver.set(reg::opcap, 0);
    CHECK(driver.get(reg::version) == 0x100);
    CHECK(driver.get64(reg::opcap) == supported_opcodes);
}

TEST_CASE("drivers' writers are told the registers' places as they are") {
    const auto text = tests::slurp(std::string{INOX_SOURCE_DIR} + "/docs/guest-abi.md");
    for (const auto& [offset, name] : std::initializer_list<std::pair<std::uint64_t, const char*>>{
             {reg::version, "VERSION"},       {reg::gencap, "GENCAP"},     {reg::wqcap, "WQCAP"},
             {reg::grpcap, "GRPCAP"},         {reg::engcap, "ENGCAP"},     {reg::opcap, "OPCAP"},
             {reg::table_offsets, "OFFSETS"}, {reg::gencfg, "GENCFG"},     {reg::genctrl, "GENCTRL"},
             {reg::gensts, "GENSTS"},         {reg::intcause, "INTCAUSE"}, {reg::cmd, "CMD"},
             {reg::cmdsts, "CMDSTS"},         {reg::cmdcap, "CMDCAP"},     {reg::swerr, "SWERR"},
             {reg::msix_perm, "MSIX_PERM"},   {reg::grpcfg, "GRPCFG"},     {reg::wqcfg, "WQCFG"},
             {reg::msix_table, "MSIXTAB"},    {reg::msix_pba, "MSIXPBA"}}) {
        INFO(name);
        CHECK(text.find(format("| %03llx | %s |", static_cast<unsigned long long>(offset), name)) != text.npos);
    }
}

TEST_CASE("what the table for drivers' writers says of accesses is so, and beside it is nothing") {
    DsaDriver driver;
    std::set<std::uint64_t> known;
    unsigned rows = 0;
    for (const auto& row : tests::register_table("The accelerator's registers")) {
        ++rows;
        if (row.offset >= reg::registers_end)
            continue; // MSI-X
        INFO(row.name);
        REQUIRE(row.bytes != 0);
        const unsigned count = row.stride == 0                ? 1
                               : row.offset == reg::msix_perm ? driver.accelerator.vectors()
                               : row.offset == reg::grpcfg    ? driver.accelerator.shape().engines
                                                              : driver.accelerator.shape().queues;
        bool changed = false;
        for (unsigned i = 0; i < count; ++i)
            for (unsigned at = 0; at < row.bytes; at += 4) {
                const auto offset = row.offset + i * row.stride + at;
                CHECK(known.insert(offset).second);
                const auto before = driver.get(offset);
                for (unsigned byte = 0; byte < 4; ++byte) {
                    std::array<std::byte, 1> one{};
                    driver.accelerator.read(offset + byte, one);
                    CHECK(one[0] == static_cast<std::byte>(before >> 8 * byte & 0xff));
                }
                driver.accelerator.write(offset, std::array{std::byte{0xff}, std::byte{0xff}});
                CHECK(driver.get(offset) == before);
                driver.set(offset, 0xffffffff);
                changed = changed || driver.get(offset) != before;
                driver.set(offset, before);
            }
        CHECK(changed == (row.access == "rw"));
    }
    CHECK(rows == 20);
    for (std::uint64_t offset = 0; offset < reg::registers_end; offset += 4) {
        if (known.contains(offset))
            continue;
        INFO(offset);
        driver.set(offset, 0xffffffff);
        CHECK(driver.get(offset) == 0);
    }
}

TEST_CASE("narrow reads are bytes of the register, narrow and crooked writes do nothing") {
    DsaDriver driver;
    std::array<std::byte, 2> two{};
    driver.accelerator.read(reg::version + 1, two);
    CHECK(load_le<std::uint16_t>(two) == 1);
    driver.accelerator.write(reg::genctrl, std::array{std::byte{3}, std::byte{0}});
    driver.accelerator.write(reg::genctrl + 2, std::array<std::byte, 4>{});
    CHECK(driver.get(reg::genctrl) == 0);
    driver.set(reg::genctrl, 0xffffffff);
    CHECK(driver.get(reg::genctrl) == genctrl_mask);
}

TEST_CASE("enabling the device checks bus, groups and sizes, each with its own code") {
    DsaDriver driver{{.queues = 2, .entries = 32, .engines = 2}};
    driver.configure();
    const auto enable = [&] { return driver.command(Command::enable_device); };
    driver.accelerator.set_bus_state({});
    CHECK(enable() == code(CommandError::bus_master_off));
    driver.accelerator.set_bus_state({.bus_master = true, .pasid = true});
    CHECK(enable() == code(CommandError::pasid_config));
    driver.accelerator.set_bus_state({.bus_master = true, .pasid = true, .page_requests = true});
    CHECK(enable() == code(CommandError::pasid_config));
    driver.accelerator.set_bus_state({.bus_master = true, .page_requests = true});
    CHECK(enable() == code(CommandError::pasid_config));
    driver.accelerator.set_bus_state({true, true, true, true, true});
    driver.set_queue(0, wq::size_word, 17);
    CHECK(enable() == code(CommandError::queue_sizes));
    driver.set_queue(0, wq::size_word, 16);
    driver.set(reg::grpcfg + group_stride, 1);
    CHECK(enable() == code(CommandError::group_queues));
    driver.set(reg::grpcfg + group_stride, 0);
    driver.set(reg::grpcfg + group_stride + 32, 1);
    CHECK(enable() == code(CommandError::group_engines));
    driver.set(reg::grpcfg + group_stride + 32, 2);
    CHECK(enable() == code(CommandError::group_halves));
    driver.set(reg::grpcfg + group_stride + 32, 4);
    CHECK(enable() == code(CommandError::group_range));
    driver.set(reg::grpcfg + group_stride + 32, 0);
    CHECK(enable() == 0);
    CHECK(driver.get(reg::gensts) == 1);
    CHECK(enable() == code(CommandError::device_enabled));
    // Groups and sizes cannot be changed while the device is enabled.
    driver.set(reg::grpcfg, 0);
    CHECK(driver.get(reg::grpcfg) == 3);
    driver.set_queue(0, wq::size_word, 1);
    CHECK((driver.get(reg::wqcfg) & 0xffff) == 16);
}

TEST_CASE("enabling a queue checks its configuration, each with its own code") {
    DsaDriver driver;
    driver.configure();
    const auto enable = [&](unsigned queue = 0) { return driver.command(Command::enable_queue, queue); };
    CHECK(enable() == code(CommandError::device_disabled));
    REQUIRE(driver.command(Command::enable_device) == 0);
    CHECK(enable(2) == code(CommandError::invalid_queue));
    const std::uint32_t good = 10U << 4 | wq::pasid_enable;
    driver.set_queue(0, wq::mode_word, wq::pasid_enable);
    CHECK(enable() == code(CommandError::queue_priority));
    driver.set_queue(0, wq::mode_word, good | wq::block_on_fault);
    CHECK(enable() == code(CommandError::queue_block_on_fault));
    driver.set_queue(0, wq::mode_word, 10U << 4); // shared without PASID
    CHECK(enable() == code(CommandError::queue_pasid));
    driver.set_queue(0, wq::mode_word, good);
    for (const unsigned threshold : {0U, 17U}) {
        driver.set_queue(0, wq::threshold_word, threshold);
        CHECK(enable() == code(CommandError::queue_mode));
    }
    driver.set_queue(0, wq::threshold_word, 8);
    driver.set_queue(0, wq::shift_word, 11U << 5);
    CHECK(enable() == code(CommandError::queue_batch));
    driver.set_queue(0, wq::shift_word, 21U | 4U << 5);
    CHECK(enable() == 0);
    CHECK(driver.get(reg::wqcfg + 24) >> 30 == 1);
    CHECK(enable() == code(CommandError::queue_enabled));
    driver.set_queue(0, wq::threshold_word, 4); // not while the queue is enabled
    CHECK(driver.get(reg::wqcfg + 4) == 8);
}

TEST_CASE("a queue of a size of zero, or in no group, cannot be enabled") {
    DsaDriver driver;
    driver.configure();
    driver.set(reg::grpcfg, 2);
    driver.set_queue(1, wq::size_word, 0);
    REQUIRE(driver.command(Command::enable_device) == 0);
    CHECK(driver.command(Command::enable_queue, 0) == code(CommandError::bad_config));
    CHECK(driver.command(Command::enable_queue, 1) == code(CommandError::queue_size));
}

TEST_CASE("a dedicated queue's PASID is the guest's own, and is held while the queue is on") {
    DsaDriver driver;
    driver.configure();
    driver.set_queue(1, wq::mode_word, 10U << 4 | wq::dedicated | wq::pasid_enable | 7U << 8);
    REQUIRE(driver.command(Command::enable_device) == 0);
    CHECK(driver.command(Command::enable_queue, 1) == code(CommandError::queue_pasid));
    driver.spaces.add(7);
    CHECK(driver.command(Command::enable_queue, 1) == 0);
    CHECK(driver.spaces.references(7) == 1);
    CHECK((driver.get(reg::wqcfg + queue_stride + 8) >> 8 & 0xfffff) == 7); // the guest's PASID, never the host's
    CHECK(driver.command(Command::disable_queue, 2) == 0);
    CHECK(driver.spaces.references(7) == 0);
}

TEST_CASE("commands on queues take a mask and refuse what is not there") {
    DsaDriver driver;
    driver.configure();
    CHECK(driver.command(Command::drain_queue, 1) == code(CommandError::device_not_enabled));
    REQUIRE(driver.command(Command::enable_device) == 0);
    for (const std::uint32_t operand : {0U, 4U, 0x10001U})
        CHECK(driver.command(Command::disable_queue, operand) == code(CommandError::invalid_queue));
    CHECK(driver.command(Command::disable_queue, 1) == code(CommandError::queue_not_enabled));
    REQUIRE(driver.command(Command::enable_queue, 0) == 0);
    CHECK(driver.command(Command::drain_queue, 3) == code(CommandError::queue_not_enabled));
    CHECK(driver.command(Command::abort_queue, 1) == 0);
    CHECK(driver.command(Command::disable_queue, 1) == 0);
    CHECK(driver.get(reg::wqcfg) == 16); // keeps its configuration
    CHECK(driver.get(reg::wqcfg + 4) == 8);
    CHECK(driver.command(Command::reset_queue, 1) == 0);
    CHECK(driver.get(reg::wqcfg) == 16); // sizes and groups belong to the device
    CHECK(driver.get(reg::wqcfg + 4) == 0);
    CHECK(driver.get(reg::wqcfg + 8) == 0);
    CHECK(driver.get(reg::grpcfg) == 3);
    CHECK(driver.command(static_cast<Command>(13)) == code(CommandError::invalid_command));
    CHECK(driver.command(static_cast<Command>(0)) == code(CommandError::invalid_command));
    CHECK(driver.command(Command::disable_device) == 0);
    CHECK(driver.command(Command::disable_device) == code(CommandError::device_not_enabled));
    CHECK(driver.command(Command::reset_queue, 1) == 0);
    CHECK(driver.get(reg::wqcfg) == 0); // the size can be set again
}

TEST_CASE("PASIDs with address translation need no page requests") {
    DsaDriver driver;
    driver.configure();
    driver.accelerator.set_bus_state({.bus_master = true, .pasid = true, .ats = true});
    CHECK(driver.command(Command::enable_device) == 0);
    CHECK(driver.command(Command::enable_queue, 0) == 0);
}

TEST_CASE("a queue that works by PASID is privileged only in privileged mode, one without PASID always may be") {
    DsaDriver driver;
    driver.spaces.add(7);
    driver.configure();
    driver.accelerator.set_bus_state({.bus_master = true, .pasid = true, .ats = true});
    REQUIRE(driver.command(Command::enable_device) == 0);
    const std::uint32_t privileged = 10U << 4 | wq::dedicated | wq::privileged;
    driver.set_queue(1, wq::mode_word, privileged | wq::pasid_enable | 7U << 8);
    CHECK(driver.command(Command::enable_queue, 1) == code(CommandError::queue_pasid));
    driver.set_queue(1, wq::mode_word, privileged);
    CHECK(driver.command(Command::enable_queue, 1) == 0);
    CHECK(driver.command(Command::disable_queue, 2) == 0);
    driver.accelerator.set_bus_state({.bus_master = true, .pasid = true, .privileged_mode = true, .ats = true});
    driver.set_queue(1, wq::mode_word, privileged | wq::pasid_enable | 7U << 8);
    CHECK(driver.command(Command::enable_queue, 1) == 0);
}

TEST_CASE("a command with the interrupt bit raises vector 0") {
    DsaDriver driver;
    driver.start_command(Command::reset_device, 0, true);
    CHECK(driver.interrupts[0] == 1);
    CHECK(driver.get(reg::intcause) == cause::command);
    driver.set(reg::intcause, cause::command);
    CHECK(driver.get(reg::intcause) == 0);
    CHECK(driver.command(Command::reset_device) == 0);
    CHECK(driver.interrupts[0] == 1);
}

TEST_CASE("a reset forgets configuration, permissions and errors") {
    DsaDriver driver;
    driver.spaces.add(3);
    REQUIRE(driver.bring_up());
    driver.set(reg::msix_perm + 8, 3U << 12 | permission_pasid_enable);
    CHECK(driver.spaces.references(3) == 1);
    driver.accelerator.post(0, {});
    CHECK((driver.get64(reg::swerr) & swerr::valid) != 0);
    CHECK(driver.command(Command::reset_device) == 0);
    CHECK(driver.get(reg::gensts) == 0);
    CHECK(driver.get64(reg::swerr) == 0);
    CHECK(driver.get(reg::wqcfg) == 0);
    CHECK(driver.get(reg::grpcfg) == 0);
    CHECK(driver.get(reg::msix_perm + 8) == 0);
    CHECK(driver.spaces.references(3) == 0);
    CHECK(driver.bring_up_again());
}

} // namespace inox::dsa_accelerator_test
