package chip

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// writeTimeout is how long the line waits for a host that does not read. A UART has no flow
// control: what nobody takes is lost.
const writeTimeout = 100 * time.Millisecond

// pty is one life of the serial line. The chip holds the slave open too, because Linux reports
// an I/O error on a master whose last slave closed, and a reader board does not vanish when the
// host program ends.
type pty struct {
	master *os.File
	slave  *os.File
	path   string // of the slave, for the host
}

func openPTY() (*pty, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/ptmx: %w", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	slave, path, err := openSlave(fd)
	if err != nil {
		master.Close()
		return nil, err
	}
	return &pty{master: master, slave: slave, path: path}, nil
}

func openSlave(master int) (*os.File, string, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, "", fmt.Errorf("unlocking the pseudo-terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return nil, "", fmt.Errorf("numbering the pseudo-terminal: %w", err)
	}
	path := fmt.Sprintf("/dev/pts/%d", n)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", fmt.Errorf("opening %s: %w", path, err)
	}
	if err := makeRaw(fd); err != nil {
		unix.Close(fd)
		return nil, "", fmt.Errorf("setting %s raw: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), path, nil
}

// makeRaw turns the terminal into a plain line at 115200 8N1, PN532 user manual 6.2.4 (HSU).
func makeRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB | unix.CBAUD
	t.Cflag |= unix.CS8 | unix.B115200
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// speed is the rate the host set on its end.
func (p *pty) speed() uint32 {
	t, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	if err != nil {
		return 0
	}
	return t.Cflag & unix.CBAUD
}

func (p *pty) write(b []byte) error {
	if err := p.master.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := p.master.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // lost on the line
	}
	return err
}

// close hangs up: the host's next read or write on its end fails.
func (p *pty) close() {
	p.master.Close()
	p.slave.Close()
}

// link points a symbolic link at the slave, replacing an older link but nothing else.
func link(at, target string) error {
	if info, err := os.Lstat(at); err == nil && info.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("linking %s: something that is not a link stands there", at)
	}
	next := at + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("linking %s: %w", at, err)
	}
	if err := os.Symlink(target, next); err != nil {
		return fmt.Errorf("linking %s: %w", at, err)
	}
	if err := os.Rename(next, at); err != nil {
		return fmt.Errorf("linking %s: %w", at, err)
	}
	return nil
}
