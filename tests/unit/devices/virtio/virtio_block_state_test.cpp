// SPDX-License-Identifier: Apache-2.0
// A disk comes to rest, is saved and restored, and goes on.
#include "devices/virtio/block/block.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/fakes/fake_block_engine.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/run_loop.hpp"
#include "tests/support/state.hpp"

namespace inox::virtio_block_state_test {

using namespace devices::virtio;
using namespace std::chrono_literals;
using fakes::Disk;
using fakes::FakeBlockEngine;

namespace {

struct Machine {
    explicit Machine(BlockOptions options = {}, std::uint64_t size = 64 * MiB) : image{size} {
        old = make(std::move(options), image.path(), &engine);
        driver.activate(*old, old->features() | feature::version_1);
    }
    ~Machine() {
        for (const auto& block : {old, fresh})
            if (block) {
                for (FakeBlockEngine* each : {engine, fresh_engine})
                    while (each && !each->waiting.empty())
                        each->finish(0, 0);
                block->reset();
            }
    }
    std::shared_ptr<Block> make(BlockOptions options, const std::string& path, FakeBlockEngine** out) {
        auto made = std::make_unique<FakeBlockEngine>();
        *out = made.get();
        options.id = "disk0";
        options.path = path;
        return Block::create(options, loop, std::move(made)).value();
    }
    /// In place of the old one, whose file is let go first.
    Block& restart(BlockOptions options = {}) {
        old.reset();
        engine = nullptr;
        fresh = make(std::move(options), image.path(), &fresh_engine);
        return *fresh;
    }
    void post(std::uint32_t type, std::string_view out, std::uint32_t in) {
        auto chain = driver[0].chain();
        chain.readable(Disk::header(type, 0));
        if (!out.empty())
            chain.readable(out);
        if (in != 0)
            chain.writable(in);
        chain.writable(1).post();
    }

    fakes::TempImage image;
    EventLoop loop{};
    fakes::VirtioDriver driver{};
    FakeBlockEngine* engine{};
    FakeBlockEngine* fresh_engine{};
    std::shared_ptr<Block> old{};
    std::shared_ptr<Block> fresh{};
};

} // namespace

TEST_CASE("a disk at rest has answered what it had begun, and takes nothing new until it resumes") {
    Machine machine;
    machine.post(VIRTIO_BLK_T_IN, {}, 512);
    machine.post(VIRTIO_BLK_T_OUT, std::string(512, 'x'), 0);
    machine.old->kick(0);
    CHECK(machine.engine->waiting.size() == 2);
    CHECK_FALSE(machine.old->drain());
    machine.post(VIRTIO_BLK_T_FLUSH, {}, 0);
    machine.old->kick(0);
    machine.engine->finish(1, 0);
    CHECK_FALSE(machine.old->drain());
    machine.engine->finish(0, 0);
    tests::turn(machine.loop); // the engine's event
    CHECK(machine.old->drain());
    CHECK(machine.driver[0].used());
    CHECK(machine.driver[0].used());
    CHECK_FALSE(machine.driver[0].used());
    CHECK(machine.engine->waiting.empty());

    SECTION("on the same side") {
        machine.old->resume();
        CHECK(machine.engine->waiting.size() == 1);
        machine.engine->finish(0, 0);
    }
    SECTION("on the other side") {
        const std::uint8_t through = 0;
        machine.old->write_config(32, std::as_bytes(std::span{&through, 1}));
        const auto saved = tests::save(*machine.old);
        Block& fresh = machine.restart();
        REQUIRE(tests::replace(machine.driver, fresh, saved));
        CHECK(tests::save(fresh) == saved);
        CHECK(machine.fresh_engine->waiting.empty());
        fresh.resume();
        REQUIRE(machine.fresh_engine->waiting.size() == 1);
        CHECK(machine.fresh_engine->waiting[0]->kind == BlockJobKind::flush);
        std::uint8_t cache = 1;
        fresh.read_config(32, std::as_writable_bytes(std::span{&cache, 1}));
        CHECK(cache == 0);
        machine.fresh_engine->finish(0, 0);
    }
    tests::turn(machine.loop);
    CHECK(machine.driver[0].used());
}

TEST_CASE("a request in pieces is not held back by a rate limit while its disk comes to rest") {
    Machine machine{{.limits = {.bandwidth = {{.size = MiB, .refill_time = 1h}}}}};
    machine.engine->finish_at_once = true;
    machine.post(VIRTIO_BLK_T_DISCARD, Disk::range(0, 16 * MiB / 512), 0);
    machine.old->kick(0);
    CHECK_FALSE(machine.driver[0].used());
    CHECK(machine.engine->seen.size() == 1);
    CHECK(machine.old->drain());
    CHECK(machine.engine->seen.size() == 16);
    CHECK(machine.driver[0].used());
    machine.post(VIRTIO_BLK_T_IN, {}, 512);
    const auto saved = tests::save(*machine.old);
    Block& fresh = machine.restart({.limits = {.bandwidth = {{.size = MiB, .refill_time = 1h}}}});
    REQUIRE(tests::replace(machine.driver, fresh, saved));
    fresh.resume();
    CHECK(machine.fresh_engine->waiting.empty()); // the bucket is as empty as before
    CHECK(fresh.block_counters().throttled == 1);
}

TEST_CASE("a disk that was waiting for its rate limit serves what waits once it resumes") {
    Machine machine{{.limits = {.ops = {{.size = 1, .refill_time = 20ms}}}}};
    machine.engine->finish_at_once = true;
    machine.post(VIRTIO_BLK_T_IN, {}, 512);
    machine.post(VIRTIO_BLK_T_IN, {}, 512);
    machine.old->kick(0);
    CHECK(machine.driver[0].used());
    CHECK(machine.old->drain());
    tests::run_for(machine.loop, 40ms); // the timer passes
    CHECK_FALSE(machine.driver[0].used());
    machine.old->resume();
    CHECK(machine.driver[0].used());
}

TEST_CASE("an image of another size is refused with both sizes, and a temporary disk with its name") {
    Machine machine;
    REQUIRE(machine.old->drain());
    const auto saved = tests::save(*machine.old);
    CHECK_FALSE(machine.old->unsaveable());
    machine.image.resize(32 * MiB);
    const auto refused = tests::replace(machine.driver, machine.restart(), saved);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().what.find("has 65536 sectors now, and had 131072") != std::string::npos);
    machine.fresh.reset();
    const auto temporary = machine.restart({.temporary = true}).unsaveable();
    REQUIRE(temporary);
    CHECK(temporary->find("disk0 (virtio-blk) is temporary") == 0);
}

TEST_CASE("damage to a disk's state does no harm") {
    const tests::LogCapture log;
    Machine machine{{.limits = {.bandwidth = {{.size = MiB, .refill_time = 1h}}}}};
    machine.post(VIRTIO_BLK_T_IN, {}, 512);
    REQUIRE(machine.old->drain());
    tests::for_each_damage(tests::save(*machine.old), [&](const auto& damaged, bool must_fail) {
        Block& fresh = machine.restart({.limits = {.bandwidth = {{.size = MiB, .refill_time = 1h}}}});
        machine.fresh_engine->finish_at_once = true;
        const bool taken = tests::replace(machine.driver, fresh, damaged).has_value();
        CHECK_FALSE((taken && must_fail));
        fresh.resume();
        tests::turn(machine.loop);
        CHECK(fresh.drain());
        machine.fresh->reset();
        machine.fresh.reset();
        machine.fresh_engine = nullptr;
    });
}

} // namespace inox::virtio_block_state_test
