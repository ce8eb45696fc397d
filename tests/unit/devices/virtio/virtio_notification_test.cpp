// SPDX-License-Identifier: Apache-2.0
// Drivers that sleep until an interrupt, on threads of their own: no notification and no interrupt may get lost.
#include <cstdlib>
#include <random>
#include <semaphore>
#include <thread>

#include "devices/virtio/block/block.hpp"
#include "devices/virtio/net/net.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/fakes/net_port.hpp"
#include "tests/fakes/sleeping_driver.hpp"

namespace inox::virtio_notification_test {

using namespace devices::virtio;
using namespace fakes;

namespace {

constexpr std::uint64_t frame_features = net_feature::checksum | net_feature::mergeable | net_feature::status;

/// Turns of each test; INOX_TEST_TURNS replaces the number.
unsigned turns(unsigned count) {
    const char* more = std::getenv("INOX_TEST_TURNS"); // NOLINT(concurrency-mt-unsafe)
    return more ? static_cast<unsigned>(std::strtoul(more, nullptr, 10)) : count;
}

/// A network whose far end sends every frame back.
struct Mirror {
    explicit Mirror(FakePort::State& state) : far{state.far[0].get()} {
        thread = std::jthread{[this](const std::stop_token& stop) {
            std::vector<std::byte> frame(2048);
            while (!stop.stop_requested()) {
                pollfd poll{far, POLLIN, 0};
                if (::poll(&poll, 1, 20) != 1)
                    continue;
                const auto got = ::recv(far, frame.data(), frame.size(), 0);
                if (got <= 0)
                    continue;
                pollfd room{far, POLLOUT, 0};
                while (::send(far, frame.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) < 0 && errno == EAGAIN &&
                       !stop.stop_requested())
                    (void)::poll(&room, 1, 20);
            }
        }};
    }
    int far;
    std::jthread thread{};
};

/// Waits for a short random time, so that the two sides meet at all points of each other's work.
void linger(std::minstd_rand& random) {
    for (std::atomic<unsigned> left{static_cast<unsigned>(random() % 400)}; left != 0; --left) {
    }
}

struct LoopThread {
    explicit LoopThread(EventLoop& own) : loop{own}, thread{[this] { loop.run(); }} {}
    ~LoopThread() {
        loop.stop();
        thread.join();
    }
    EventLoop& loop;
    std::thread thread;
};

/// Works like Linux's driver. It receives with interrupts disabled until the ring is empty. It asks for a transmit
/// interrupt only when there is no room, for the time when most of the ring is done.
class FrameDriver {
public:
    explicit FrameDriver(SleepingDriver& own) : driver{own} {
        driver[1].refuse_interrupts();
        refill();
    }
    bool send(std::uint64_t sequence) {
        take_sent();
        if (driver[1].full() && !wait_for_room())
            return false;
        const std::uint64_t at = driver[1].address(driver[1].next());
        driver.ram.put(at, NetHeader{});
        driver.ram.put(at + sizeof(NetHeader), sequence);
        driver[1].add();
        return true;
    }
    void sent() { driver.publish(1); }
    /// Whether the next frame arrives and is this one.
    bool receive(std::uint64_t sequence) {
        std::optional<SleepingRing::Used> used;
        while (!(used = driver[0].take())) {
            refill();
            if (driver[0].ask_interrupt() && !driver.sleep())
                return false;
            driver[0].refuse_interrupts();
        }
        const std::uint64_t at = driver[0].address(used->request);
        return used->length == frame_size && driver.ram.get<std::uint64_t>(at + sizeof(NetHeader)) == sequence;
    }

    static constexpr std::uint32_t frame_size = sizeof(NetHeader) + 60;

private:
    void refill() {
        while (!driver[0].full())
            driver[0].add();
        driver.publish(0);
    }
    void take_sent() {
        while (driver[1].take()) {
        }
    }
    bool wait_for_room() {
        driver.publish(1);
        while (driver[1].full()) {
            if (driver[1].ask_interrupt(static_cast<std::uint16_t>(driver[1].outstanding() * 3 / 4)) && !driver.sleep())
                return false;
            take_sent();
        }
        driver[1].refuse_interrupts();
        return true;
    }

    SleepingDriver& driver;
};

void exchange_frames(std::uint64_t features, std::uint16_t ring, unsigned longest_burst) {
    EventLoop loop;
    auto port = std::make_shared<FakePort::State>();
    const auto net = *Net::create({}, loop, std::make_unique<FakePort>(port));
    SleepingDriver driver{
        net, loop, frame_features | features, {{ring, {{1526, true}}}, {ring, {{FrameDriver::frame_size, false}}}}};
    const Mirror mirror{*port};
    driver.start();
    {
        const LoopThread runner{loop};
        FrameDriver frames{driver};
        std::minstd_rand random{ring};
        std::uint64_t sent = 0;
        for (std::uint64_t received = 0; received < turns(20'000);) {
            for (auto burst = random() % longest_burst + 1; burst != 0; --burst) {
                REQUIRE(frames.send(sent++));
                if (random() % 2 == 0) {
                    linger(random);
                    frames.sent();
                }
            }
            frames.sent();
            for (; received < sent; ++received) {
                INFO("frame " << received << " of " << sent);
                REQUIRE(frames.receive(received));
            }
        }
        CHECK_FALSE(driver.notifier.broken);
    }
    net->reset();
}

/// A thread that keeps several reads in flight and sleeps when none has finished.
void read_sectors(std::uint64_t features, BlockEngineKind engine) {
    EventLoop loop;
    const TempImage image{MiB};
    const auto block = *Block::create({.path = image.path(), .engine = engine}, loop);
    SleepingDriver driver{block, loop, features, {{32, {{16, false}, {512, true}, {1, true}}}}};
    driver.start();
    {
        const LoopThread runner{loop};
        std::minstd_rand random{1};
        std::uint64_t posted = 0;
        for (std::uint64_t done = 0; done < turns(20'000);) {
            for (auto burst = random() % 10 + 1; burst != 0 && !driver[0].full(); --burst) {
                const std::uint16_t request = driver[0].next();
                driver.ram.put(driver[0].address(request), std::uint64_t{VIRTIO_BLK_T_IN});
                driver.ram.put(driver[0].address(request) + 8, posted++ % 2048);
                driver[0].add();
                if (random() % 2 == 0) {
                    linger(random);
                    driver.publish(0);
                }
            }
            driver.publish(0);
            std::optional<SleepingRing::Used> used;
            while (!(used = driver[0].take())) {
                INFO("request " << done << " of " << posted);
                REQUIRE((!driver[0].ask_interrupt() || driver.sleep()));
                driver[0].refuse_interrupts();
            }
            for (; used; used = driver[0].take(), ++done) {
                const auto sector = driver.ram.get<std::uint64_t>(driver[0].address(used->request) + 8);
                REQUIRE(driver.ram.get<std::uint8_t>(driver[0].address(used->request, 2)) == VIRTIO_BLK_S_OK);
                REQUIRE(driver.ram.get<std::uint64_t>(driver[0].address(used->request, 1)) == sector);
            }
        }
        CHECK_FALSE(driver.notifier.broken);
    }
    block->reset();
}

/// A ring between two threads that do nothing else, so that they meet in the few nanoseconds in which one decides to
/// sleep and the other decides whether to wake it.
void hand_over(bool event_index) {
    using Bell = std::counting_semaphore<>;
    TestRam ram;
    SleepingRing ring{ram, 16, event_index, {{16, true}}};
    Bell doorbell{0};
    Bell interrupt{0};
    std::jthread device{[&](const std::stop_token& stop) {
        Queue queue{ram.direct, ring.layout, event_index};
        Chain chain;
        while (!stop.stop_requested()) {
            const auto hold = ram.direct.hold();
            if (queue.refresh())
                (void)serve(queue, chain, ~0U, [&](Chain& taken) {
                    queue.push(taken.head, 0);
                    return true;
                });
            if (queue.take_interrupt())
                interrupt.release();
            doorbell.acquire();
        }
    }};
    const auto publish = [&] {
        if (ring.publish())
            doorbell.release();
    };
    std::minstd_rand random{2};
    std::uint64_t posted = 0;
    std::uint64_t done = 0;
    bool awake = true;
    while (awake && done < turns(200'000)) {
        for (auto burst = random() % 3 + 1; burst != 0 && !ring.full(); --burst) {
            ring.add();
            ++posted;
            linger(random);
            publish();
        }
        const auto wanted = random() % 4 == 0 ? 0 : random() % (ring.outstanding() + 1); // how many stay in flight
        while (awake && ring.outstanding() > wanted) {
            if (ring.take())
                ++done;
            else if (ring.ask_interrupt())
                awake = interrupt.try_acquire_for(std::chrono::seconds{20});
        }
    }
    INFO(done << " of " << posted);
    CHECK(awake);
    device.request_stop();
    doorbell.release();
}

} // namespace

TEST_CASE("neither side of a ring sleeps while the other has work for it") { hand_over(GENERATE(false, true)); }

TEST_CASE(
    "a network driver that sleeps is woken for each frame, one at a time and in bursts, in rings large and small") {
    const std::uint64_t features = GENERATE(std::uint64_t{0}, feature::event_index);
    SECTION("one at a time") { exchange_frames(features, 256, 1); }
    SECTION("in bursts") { exchange_frames(features, 256, 60); }
    SECTION("in rings smaller than the bursts") { exchange_frames(features, 8, 40); }
}

TEST_CASE("a disk's driver that sleeps is woken for each request") {
    read_sectors(GENERATE(std::uint64_t{0}, feature::event_index),
                 GENERATE(BlockEngineKind::sync, BlockEngineKind::automatic));
}

} // namespace inox::virtio_notification_test
