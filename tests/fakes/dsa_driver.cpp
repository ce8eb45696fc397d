// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/dsa_driver.hpp"

#include "tests/support/eventually.hpp"

namespace inox::fakes {

std::shared_ptr<devices::dsa::Space> DsaSpaces::open(iommu::HostPasid host) noexcept {
    return host.raw() < offset ? nullptr : take(host.raw() - offset);
}

std::optional<iommu::GuestPasid> DsaSpaces::guest_of(iommu::HostPasid host) noexcept {
    return host.raw() < offset ? std::nullopt : std::optional{iommu::GuestPasid{host.raw() - offset}};
}

DsaSpaces::View::View(std::shared_ptr<Pasid> pasid, std::uint32_t number) : pasid_{std::move(pasid)}, number_{number} {
    ++pasid_->references;
}

std::shared_ptr<devices::dsa::Space> DsaSpaces::take(std::uint32_t guest) {
    const auto found = pasids.find(guest);
    return found == pasids.end() ? nullptr : std::make_shared<View>(found->second, guest);
}

DsaDriver::DsaDriver(const devices::dsa::Shape& shape)
    : accelerator{shape, {plain, &spaces, [this](unsigned vector) { ++interrupts.at(vector); }}} {
    accelerator.set_bus_state({true, true, true, true, true});
}

std::uint32_t DsaDriver::get(std::uint64_t offset) {
    std::array<std::byte, 4> bytes{};
    accelerator.read(offset, bytes);
    return load_le<std::uint32_t>(bytes);
}

std::uint64_t DsaDriver::get64(std::uint64_t offset) {
    std::array<std::byte, 8> bytes{};
    accelerator.read(offset, bytes);
    return load_le(bytes);
}

void DsaDriver::set(std::uint64_t offset, std::uint32_t value) {
    std::array<std::byte, 4> bytes{};
    store_le(bytes, value);
    accelerator.write(offset, bytes);
}

void DsaDriver::set64(std::uint64_t offset, std::uint64_t value) {
    std::array<std::byte, 8> bytes{};
    store_le(bytes, value);
    accelerator.write(offset, bytes);
}

void DsaDriver::set_queue(unsigned queue, unsigned word, std::uint32_t value) {
    set(devices::dsa::reg::wqcfg + queue * devices::dsa::queue_stride + word * 4, value);
}

void DsaDriver::start_command(Command command, std::uint32_t operand, bool interrupt) {
    set(devices::dsa::reg::cmd,
        static_cast<std::uint32_t>(command) << 20 | operand | (interrupt ? devices::dsa::cmd_interrupt : 0));
}

std::uint32_t DsaDriver::command(Command command, std::uint32_t operand) {
    start_command(command, operand);
    if (!tests::eventually([&] { return (get(devices::dsa::reg::cmdsts) & devices::dsa::cmdsts_active) == 0; }))
        return 0xffff;
    return get(devices::dsa::reg::cmdsts) & 0xff;
}

void DsaDriver::configure() {
    using namespace inox::devices::dsa;
    for (const unsigned queue : {0U, 1U}) {
        set_queue(queue, wq::size_word, 16);
        set_queue(queue, wq::threshold_word, queue == 0 ? 8 : 0);
        set_queue(queue, wq::mode_word, 10U << 4 | (queue == 0 ? wq::pasid_enable : wq::dedicated));
        set_queue(queue, wq::shift_word, 21U | 4U << 5);
    }
    set(reg::grpcfg, 3);
    set(reg::grpcfg + 32, 1);
    set(reg::gencfg, gencfg_user_interrupts);
}

bool DsaDriver::bring_up_again() {
    configure();
    return command(Command::enable_device) == 0 && command(Command::enable_queue, 0) == 0 &&
           command(Command::enable_queue, 1) == 0;
}

DsaDriver::Descriptor DsaDriver::make(devices::dsa::Opcode opcode, std::uint64_t from, std::uint64_t to,
                                      std::uint32_t size, std::uint64_t completion) {
    Descriptor out{};
    out.flags_word = static_cast<std::uint32_t>(opcode) << 24 | devices::dsa::flag::completion_address_valid |
                     devices::dsa::flag::request_completion;
    out.completion = completion;
    out.source = from;
    out.destination = to;
    out.size = size;
    return out;
}

} // namespace inox::fakes
