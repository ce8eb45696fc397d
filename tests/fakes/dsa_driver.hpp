// SPDX-License-Identifier: Apache-2.0
// The accelerator as its driver sees it, and a guest's PASIDs behind it.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "devices/dsa/accelerator.hpp"
#include "tests/fakes/paged_memory.hpp"

namespace inox::fakes {

/// PASIDs with memory of their own. Host numbers are the guest's plus 0x8000. Counts references.
class DsaSpaces final : public devices::dsa::Spaces {
public:
    struct Pasid {
        PagedMemory memory{64};
        std::atomic<int> references{0};
    };

    void add(std::uint32_t guest) { pasids[guest] = std::make_shared<Pasid>(); }
    std::shared_ptr<devices::dsa::Space> open(iommu::GuestPasid guest) noexcept override { return take(guest.raw()); }
    std::shared_ptr<devices::dsa::Space> open(iommu::HostPasid host) noexcept override {
        return host.raw() < offset ? nullptr : take(host.raw() - offset);
    }
    std::optional<iommu::GuestPasid> guest_of(iommu::HostPasid host) noexcept override {
        return host.raw() < offset ? std::nullopt : std::optional{iommu::GuestPasid{host.raw() - offset}};
    }
    PagedMemory& memory(std::uint32_t guest) { return pasids.at(guest)->memory; }
    int references(std::uint32_t guest) { return pasids.at(guest)->references; }

    static constexpr std::uint32_t offset = 0x8000;
    std::map<std::uint32_t, std::shared_ptr<Pasid>> pasids{};

private:
    class View final : public devices::dsa::Space {
    public:
        View(std::shared_ptr<Pasid> pasid, std::uint32_t number) : pasid_{std::move(pasid)}, number_{number} {
            ++pasid_->references;
        }
        ~View() override { --pasid_->references; }
        iommu::HostPasid pasid() const noexcept override { return iommu::HostPasid{number_ + offset}; }
        const DmaMemory& memory(bool) const noexcept override { return pasid_->memory; }

    private:
        std::shared_ptr<Pasid> pasid_;
        std::uint32_t number_;
    };
    std::shared_ptr<devices::dsa::Space> take(std::uint32_t guest) {
        const auto found = pasids.find(guest);
        return found == pasids.end() ? nullptr : std::make_shared<View>(found->second, guest);
    }
};

/// Polls until the condition holds, for at most ten seconds.
template <class F> bool eventually(F&& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{10};
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end)
            return false;
        std::this_thread::sleep_for(std::chrono::microseconds{50});
    }
    return true;
}

struct DsaDriver {
    using Accelerator = devices::dsa::Accelerator;
    using Command = devices::dsa::Command;
    using Descriptor = devices::dsa::Descriptor;

    PagedMemory plain{256};
    DsaSpaces spaces{};
    std::array<std::atomic<unsigned>, devices::dsa::max_vectors> interrupts{};
    Accelerator accelerator;

    explicit DsaDriver(const devices::dsa::Shape& shape = {})
        : accelerator{shape, {plain, &spaces, [this](unsigned vector) { ++interrupts.at(vector); }}} {
        accelerator.set_bus_state({true, true, true, true, true});
    }

    std::uint32_t get(std::uint64_t offset) {
        std::array<std::byte, 4> bytes{};
        accelerator.read(offset, bytes);
        return load_le<std::uint32_t>(bytes);
    }
    std::uint64_t get64(std::uint64_t offset) {
        std::array<std::byte, 8> bytes{};
        accelerator.read(offset, bytes);
        return load_le(bytes);
    }
    void set(std::uint64_t offset, std::uint32_t value) {
        std::array<std::byte, 4> bytes{};
        store_le(bytes, value);
        accelerator.write(offset, bytes);
    }
    void set64(std::uint64_t offset, std::uint64_t value) {
        std::array<std::byte, 8> bytes{};
        store_le(bytes, value);
        accelerator.write(offset, bytes);
    }
    void set_queue(unsigned queue, unsigned word, std::uint32_t value) {
        set(devices::dsa::reg::wqcfg + queue * devices::dsa::queue_stride + word * 4, value);
    }
    void start_command(Command command, std::uint32_t operand = 0, bool interrupt = false) {
        set(devices::dsa::reg::cmd,
            static_cast<std::uint32_t>(command) << 20 | operand | (interrupt ? devices::dsa::cmd_interrupt : 0));
    }
    /// Waits; the error field.
    std::uint32_t command(Command command, std::uint32_t operand = 0) {
        start_command(command, operand);
        if (!eventually([&] { return (get(devices::dsa::reg::cmdsts) & devices::dsa::cmdsts_active) == 0; }))
            return 0xffff;
        return get(devices::dsa::reg::cmdsts) & 0xff;
    }
    /// Queue 0 shared, of 16 with a threshold of 8; queue 1 dedicated, of 16, without PASID; one group.
    void configure() {
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
    bool bring_up() { return accelerator.start() && bring_up_again(); }
    bool bring_up_again() {
        configure();
        return command(Command::enable_device) == 0 && command(Command::enable_queue, 0) == 0 &&
               command(Command::enable_queue, 1) == 0;
    }

    static Descriptor make(devices::dsa::Opcode opcode, std::uint64_t from, std::uint64_t to, std::uint32_t size,
                           std::uint64_t completion) {
        Descriptor out{};
        out.flags_word = static_cast<std::uint32_t>(opcode) << 24 | devices::dsa::flag::completion_address_valid |
                         devices::dsa::flag::request_completion;
        out.completion = completion;
        out.source = from;
        out.destination = to;
        out.size = size;
        return out;
    }
};

} // namespace inox::fakes
