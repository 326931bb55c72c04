package journal

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// errInput stands for a device that does not answer.
var errInput = syscall.EIO

// copyTree copies the files of a directory by another process and shows each copy to see, which may be nil.
func copyTree(t testing.TB, from, to string, see func(name string, data []byte)) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copying: %v: %s", err, out)
	}
	if see == nil {
		return
	}
	entries, err := os.ReadDir(to)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(to, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		see(e.Name(), data)
	}
}
