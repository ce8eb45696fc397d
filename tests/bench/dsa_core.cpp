// SPDX-License-Identifier: Apache-2.0
// The cost of a submission, from the exit's bytes to the answer, with a real page walk, translation table and queue but
// without KVM's registers; and the cost of the accelerator's MEMMOVE next to memcpy.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "devices/dsa/accelerator.hpp"
#include "devices/dsa/endpoint_spaces.hpp"
#include "devices/dsa/portals.hpp"
#include "iommu/pasid/enqcmd_execute.hpp"
#include "iommu/pasid/page_walk.hpp"
#include "tests/fakes/dsa_pace.hpp"
#include "tests/support/page_tables.hpp"

using namespace inox;

namespace {

using namespace devices::dsa;

void require(bool good) {
    if (!good)
        std::abort();
}

constexpr iommu::EndpointId endpoint{0x18};
constexpr std::uint64_t linear = 0x7f0000000000;
constexpr std::uint64_t portal_page_at = 0xc8001000;

/// A guest with a bound PASID, CPU page tables, and an accelerator with one shared queue.
struct Guest {
    GuestMemory memory{*GuestMemory::create(32 * MiB, HugePages::none)};
    iommu::IoasidCore core{};
    std::unique_ptr<iommu::PasidService> service{*iommu::PasidService::create(core, memory, {})};
    EndpointSpaces spaces{*service, [](iommu::HostPasid) {}};
    DirectMemory direct{memory};
    Accelerator accelerator{{.queues = 1, .entries = 1024}, {direct, &spaces, [](unsigned) {}, {}}};
    Portals portals{accelerator};
    iommu::GuestPasid pasid{};
    iommu::Paging paging{};

    /// How 8 MiB of data lie in guest memory.
    enum class Pages { small, large, scattered };
    static std::uint64_t scattered(std::uint64_t at) { return at * 769 % (8 * MiB); }
    explicit Guest(Pages pages = Pages::small) {
        tests::PageTables tables{memory, 0x100000};
        const bool large = pages == Pages::large;
        for (std::uint64_t at = 0; at < 8 * MiB; at += large ? 2 * MiB : page_size) {
            const std::uint64_t to = pages == Pages::scattered ? scattered(at) : at;
            tables.map(linear + at, 0x1000000 + to, tests::PageTables::all, large ? 2 : 1);
        }
        tables.map(0x400000, 0x400000);
        tables.map(portal_page_at, portal_page_at);
        paging.root = tables.root();
        require(spaces.attach(endpoint, "dsa").has_value());
        require(service->alloc(pasid) == iommu::PasidStatus::ok);
        require(service->bind(endpoint, pasid, {.root = tables.root()}) == iommu::PasidStatus::ok);
        accelerator.set_bus_state({true, true, true, true, true});
        set(reg::wqcfg, 1024);
        set(reg::wqcfg + 4, 1024);
        set(reg::wqcfg + 8, 1U << 4 | wq::pasid_enable);
        set(reg::wqcfg + 12, 31);
        set(reg::grpcfg, 1);
        set(reg::grpcfg + 32, 1);
        require(accelerator.start().has_value());
        set(reg::cmd, static_cast<std::uint32_t>(Command::enable_device) << 20);
        set(reg::cmd, static_cast<std::uint32_t>(Command::enable_queue) << 20);
    }
    void set(std::uint64_t offset, std::uint32_t value) {
        std::array<std::byte, 4> bytes{};
        store_le(bytes, value);
        accelerator.write(offset, bytes);
    }
};

class Machine final : public iommu::EnqueueMachine {
public:
    explicit Machine(Guest& guest) : guest_{guest}, walker_{guest.memory, guest.paging} {}
    std::expected<Gpa, iommu::CpuFault> translate(std::uint64_t at, bool write) noexcept override {
        const auto page = walker_.walk(at, {.write = write, .user = true});
        if (!page)
            return std::unexpected{iommu::CpuFault{iommu::CpuFault::pf, page.error().code, at}};
        return page->address;
    }
    void read(Gpa from, std::span<std::byte> to) noexcept override { require(guest_.memory.read(from, to)); }
    void store(Gpa, const iommu::EnqueueCommand&) noexcept override {}
    bool enqueue(Gpa to, const iommu::EnqueueCommand& command) noexcept override {
        return guest_.portals.enqueue(to.raw() - portal_page_at, command);
    }
    bool with_pasid(iommu::GuestPasid guest, const std::function<void(iommu::HostPasid)>& submit) noexcept override {
        const auto submission = guest_.service->submit(guest);
        if (submission)
            submit(submission->host());
        return submission.has_value();
    }

private:
    Guest& guest_;
    iommu::PageWalker walker_;
};

void exit_to_reentry(benchmark::State& state) {
    Guest guest;
    iommu::CpuState cpu;
    cpu.registers[0] = portal_page_at;
    cpu.registers[6] = 0x400000;
    cpu.cr0 = iommu::cpu_bit::cr0_pe;
    cpu.cpl = 3;
    cpu.ia32_pasid = iommu::ia32_pasid_valid | guest.pasid.raw();
    constexpr std::uint8_t bytes[15] = {0xf2, 0x0f, 0x38, 0xf8, 0x06}; // enqcmd rax, [rsi]: a NOOP
    for (auto _ : state) {
        const auto started = std::chrono::steady_clock::now();
        const auto instruction = iommu::decode_enqueue(bytes, iommu::CodeSize::bits64);
        Machine machine{guest};
        const auto outcome = iommu::execute_enqueue(*instruction, cpu, machine);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
        require(outcome.verdict == iommu::EnqueueOutcome::Verdict::retired);
        state.SetIterationTime(took.count());
        if (!outcome.accepted) // the queue is full: lets the engine work
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
}

constexpr std::size_t size = MiB;

void memcpy_1_mib(benchmark::State& state) {
    Guest guest;
    const auto from = *guest.memory.host(Gpa{0x1000000}, size), to = *guest.memory.host(Gpa{0x1400000}, size);
    for (auto _ : state) {
        std::memcpy(to.data(), from.data(), size);
        benchmark::ClobberMemory();
    }
}

/// Copies the same bytes as the scattered pages below, page by page.
void memcpy_1_mib_scattered(benchmark::State& state) {
    Guest guest;
    const auto all = *guest.memory.host(Gpa{0x1000000}, 8 * MiB);
    for (auto _ : state) {
        for (std::size_t at = 0; at < size; at += page_size)
            std::memcpy(all.data() + Guest::scattered(at + 4 * MiB), all.data() + Guest::scattered(at), page_size);
        benchmark::ClobberMemory();
    }
}

/// The engine's work for the descriptor, on this thread, through the PASID's page tables.
void memmove_1_mib(benchmark::State& state) {
    Guest guest{static_cast<Guest::Pages>(state.range(0))};
    const auto space = guest.spaces.open(guest.pasid);
    fakes::DsaPace pace;
    CpuCopier copier;
    Operation operation{space->memory(false), pace, copier};
    Descriptor descriptor{};
    descriptor.flags_word = static_cast<std::uint32_t>(Opcode::memmove) << 24;
    descriptor.source = linear;
    descriptor.destination = linear + 4 * MiB;
    descriptor.size = size;
    for (auto _ : state)
        require(operation.run(descriptor).succeeded());
}

} // namespace

BENCHMARK(exit_to_reentry)->Name("enqcmd_exit_to_reentry")->UseManualTime();
BENCHMARK(memcpy_1_mib)->Name("memcpy_1_mib");
BENCHMARK(memmove_1_mib)->Name("dsa_memmove_1_mib")->Arg(1);
BENCHMARK(memmove_1_mib)->Name("dsa_memmove_1_mib_4k_pages")->Arg(0);
BENCHMARK(memcpy_1_mib_scattered)->Name("memcpy_1_mib_scattered");
BENCHMARK(memmove_1_mib)->Name("dsa_memmove_1_mib_4k_scattered")->Arg(2);
BENCHMARK_MAIN();
