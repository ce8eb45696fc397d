// SPDX-License-Identifier: Apache-2.0
// The address-space core alone, with an emulated endpoint: the cost of a MAP and an UNMAP with N live mappings, and of
// a translation. Then a disk behind it.
#include <benchmark/benchmark.h>
#include <cstdlib>
#include <poll.h>
#include <random>
#include <thread>

#include "iommu/domains.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/support/mapping_insert.hpp"
#include "tests/support/translate.hpp"

using namespace inox;

namespace {

using iommu::DomainId;
using iommu::EndpointId;
using iommu::Status;

constexpr std::uint64_t page = page_size;
constexpr std::uint64_t ram_size = 64 * MiB;

void require(bool good) {
    if (!good)
        std::abort();
}

struct World {
    GuestMemory memory{*GuestMemory::create(ram_size, HugePages::none)};
    iommu::Domains domains{memory, {.mappings = std::size_t{1} << 21}, false};
    std::unique_ptr<iommu::EndpointMemory> view{domains.make_memory()};
    Registration stay{*domains.add_endpoint(EndpointId{8}, "bench", *view)};
    std::uint64_t space; ///< pages that mappings may take: every other one is free

    explicit World(std::uint64_t live) : space{2 * live} {
        require(domains.attach(DomainId{1}, EndpointId{8}, false) == Status::ok);
        for (std::uint64_t i = 0; i < live; ++i)
            map(2 * i);
    }
    void map(std::uint64_t at) {
        const std::uint64_t start = (at + 0x100000) * page; // above the MSI window
        require(domains.map(DomainId{1}, Iova{start}, Iova{start + page - 1}, Gpa{at % (ram_size / page) * page}, 3) ==
                Status::ok);
    }
    void unmap(std::uint64_t at) {
        const std::uint64_t start = (at + 0x100000) * page;
        require(domains.unmap(DomainId{1}, Iova{start}, Iova{start + page - 1}) == Status::ok);
    }
};

/// Maps and unmaps one page at a random place among the live ones.
void map_unmap(benchmark::State& state) {
    World world{static_cast<std::uint64_t>(state.range(0))};
    std::mt19937_64 random{1};
    for (auto _ : state) {
        const std::uint64_t at = random() % world.space | 1;
        world.map(at);
        world.unmap(at);
    }
}

void translate(benchmark::State& state) {
    World world{1000};
    std::vector<iovec> out;
    out.reserve(1);
    const auto hold = world.view->hold();
    const auto range = *Range<Iova>::sized(Iova{(0x100000 + 40) * page + 512}, 512);
    for (auto _ : state) {
        out.clear();
        require(tests::translate(*world.view, range, Access::read, out));
        benchmark::DoNotOptimize(out.data());
    }
    require(world.view->counts().misses == 1);
}

/// Bytes of host memory for each mapping, as the allocator counts them.
void memory_per_mapping(benchmark::State& state) {
    const auto live = static_cast<std::uint64_t>(state.range(0));
    iommu::MappingTable table;
    std::mt19937_64 random{1};
    while (table.size() < live) {
        const std::uint64_t start = random() % (8 * live) * page;
        (void)tests::insert(table, {*Range<Iova>::sized(Iova{start}, page), Gpa{0}, 3});
    }
    for (auto _ : state)
        benchmark::DoNotOptimize(table.size());
    state.counters["bytes"] = static_cast<double>(table.memory()) / static_cast<double>(table.size());
}

/// Interrupts that a thread can wait for.
struct Interrupts final : devices::virtio::Notifier {
    void used_buffers(unsigned) noexcept override { event.signal(); }
    void config_changed() noexcept override {}
    void needs_reset() noexcept override { std::abort(); }
    void wait() const {
        pollfd one{event.fd(), POLLIN, 0};
        (void)::poll(&one, 1, -1);
        (void)event.drain();
    }
    EventFd event{*EventFd::create()};
};

/// Reads of 4 KiB from the page cache, 32 in flight, through existing mappings. The driver has a thread of its own, as
/// a vCPU has. For each interrupt it takes the used buffers, adds new ones and notifies once.
void disk_reads(benchmark::State& state) {
    using devices::virtio::Queue;
    constexpr unsigned depth = 32;
    constexpr std::uint64_t buffers = 0x1000000;
    fakes::TempImage image{16 * MiB};
    EventLoop loop;
    fakes::TestRam ram{ram_size};
    iommu::Domains domains{ram.memory, {}, false};
    const auto memory = domains.make_memory();
    const auto stay = *domains.add_endpoint(EndpointId{8}, "disk", *memory);
    require(domains.attach(DomainId{1}, EndpointId{8}, false) == Status::ok);
    require(domains.map(DomainId{1}, Iova{0}, Iova{ram_size - 1}, Gpa{0}, 3) == Status::ok);
    const auto kind =
        state.range(0) == 0 ? devices::virtio::BlockEngineKind::sync : devices::virtio::BlockEngineKind::automatic;
    const auto block = *devices::virtio::Block::create({.id = "disk", .path = image.path(), .engine = kind}, loop);
    fakes::VirtqueueDriver driver{ram, 128};
    Interrupts interrupts;
    std::vector<std::optional<Queue>> queues;
    queues.emplace_back(Queue{*memory, driver.layout, false});
    block->activate(*memory, std::move(queues),
                    block->features() | devices::virtio::feature::version_1 | devices::virtio::feature::access_platform,
                    interrupts);
    const auto bell = *EventFd::create();
    const auto watch = *loop.watch(bell.fd(), [&] {
        (void)bell.drain();
        block->kick(0);
    });
    std::jthread device{[&] { loop.run(); }};
    std::mt19937_64 random{1};
    std::uint64_t posted = 0;
    const auto post = [&] {
        const std::uint64_t at = buffers + posted++ % 1024 * 3 * page;
        ram.put(at, virtio_blk_outhdr{VIRTIO_BLK_T_IN, 0, random() % 4096 * 8});
        driver.chain().raw({at, 16, false}).raw({at + page, page, true}).raw({at + 2 * page, 1, true}).post();
    };
    for (unsigned i = 0; i < depth; ++i)
        post();
    bell.signal();
    std::uint64_t done = 0;
    for (auto _ : state) {
        const std::uint64_t goal = done + 1000;
        while (done < goal) {
            interrupts.wait();
            while (driver.used()) {
                ++done;
                post();
            }
            bell.signal();
        }
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(done));
    loop.stop();
    device.join();
    block->reset();
}

} // namespace

BENCHMARK(disk_reads)->ArgName("io_uring")->Arg(0)->Arg(1)->UseRealTime();
BENCHMARK(map_unmap)->Arg(10)->Arg(1000)->Arg(100000)->Arg(1000000);
BENCHMARK(translate);
BENCHMARK(memory_per_mapping)->Arg(1000000)->Iterations(1);
BENCHMARK_MAIN();
