// SPDX-License-Identifier: GPL-2.0
// A module whose start is the trouble that its parameter names: what a kernel under test can come to. Debian's kernels
// have no test module for that.   insmod trouble.ko what=warn
#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/panic.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/string.h>

static char *what = "";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "panic, oops, bug, warn, softlockup, hardlockup, stall, deadlock, hungtask");

static DEFINE_SPINLOCK(lock);

static void spin(unsigned int seconds)
{
	const ktime_t end = ktime_add_ms(ktime_get(), 1000 * seconds);

	while (ktime_before(ktime_get(), end))
		cpu_relax();
}

static noinline void write_to_nowhere(void)
{
	*(volatile int *)8 = 1;
}

static int __init trouble_start(void)
{
	if (strcmp(what, "panic") == 0) {
		panic("trouble: as asked");
	} else if (strcmp(what, "oops") == 0) {
		write_to_nowhere();
	} else if (strcmp(what, "bug") == 0) {
		BUG();
	} else if (strcmp(what, "warn") == 0) {
		WARN(1, "trouble: as asked\n");
	} else if (strcmp(what, "softlockup") == 0) {
		preempt_disable();
		spin(45);
		preempt_enable();
	} else if (strcmp(what, "stall") == 0) {
		rcu_read_lock();
		spin(45);
		rcu_read_unlock();
	} else if (strcmp(what, "hardlockup") == 0) {
		local_irq_disable();
		for (;;)
			cpu_relax();
	} else if (strcmp(what, "deadlock") == 0) {
		spin_lock(&lock);
		spin_lock(&lock);
	} else if (strcmp(what, "hungtask") == 0) {
		for (;;) {
			set_current_state(TASK_UNINTERRUPTIBLE);
			schedule();
		}
	} else {
		pr_err("trouble: there is no trouble '%s'\n", what);
		return -EINVAL;
	}
	return 0;
}

module_init(trouble_start);
MODULE_DESCRIPTION("Trouble of the kind that its parameter names");
MODULE_LICENSE("GPL");
